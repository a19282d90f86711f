// What faults can be planted on, and how a target is written.
import type { Demo, FaultKind } from "../api/types.ts";

/** A service, or with `replica` one of its replicas. */
export interface Target {
  target: string;
  replica: boolean;
}

/** Every service, each followed by its replicas where it has more than one. */
export function targets(demo: Demo): Target[] {
  return demo.services.flatMap((service) => {
    const replicas = service.replicas.length > 1 ? service.replicas : [];
    return [
      { target: service.name, replica: false },
      ...replicas.map((replica) => ({ target: spelled(replica, service.name), replica: true })),
    ];
  });
}

/** Whether that fault is planted there, or on the whole service. */
export function isOn(demo: Demo, kind: FaultKind, target: string): boolean {
  const service = target.split("/")[0] ?? target;
  const places = [service, target];
  return demo.faults.some((fault) => fault.kind === kind && places.includes(spelled(fault.target, service)));
}

/** `payments-2` as a fault's target: `payments/2`. */
function spelled(name: string, service: string): string {
  return name.startsWith(`${service}-`) ? `${service}/${name.slice(service.length + 1)}` : name;
}
