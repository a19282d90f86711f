// The demo's switches: break a service or one of its replicas, and watch what the mesh does about it.
import { Switch } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useFaultSwitch } from "../api/queries.ts";
import type { Demo, FaultKind } from "../api/types.ts";
import { Failure } from "../parts/Failure.tsx";
import { Icon } from "../parts/Icon.tsx";
import styles from "./FaultPanel.module.css";
import { isOn, targets } from "./targets.ts";

const KINDS: { kind: FaultKind; title: string; what: string }[] = [
  { kind: "latency", title: "latency", what: "answers ten times slower" },
  { kind: "errors", title: "errors", what: "answers with errors" },
  { kind: "outage", title: "outage", what: "does not answer" },
];

export function FaultPanel({ demo }: { demo: Demo }) {
  const navigate = useNavigate();
  const toggle = useFaultSwitch();
  return (
    <aside id="faults" className={styles.panel} aria-label="Faults of the demo">
      <div className={styles.head}>
        <h2>Break something</h2>
        <button
          type="button"
          className="plain"
          aria-label="Close faults"
          onClick={() => navigate({ to: ".", search: (before) => ({ ...before, faults: undefined }) })}
        >
          <Icon name="close" />
        </button>
      </div>
      <p className={styles.lead}>
        Switch a fault on and watch: the edge turns red, a finding names the culprit, the proxies stop sending
        to it. Lift it and traffic returns by itself.
      </p>
      {toggle.error && <Failure what="The switch did not work" error={toggle.error} />}
      <table className={styles.table}>
        <thead>
          <tr>
            <th scope="col">target</th>
            {KINDS.map(({ kind, title, what }) => (
              <th scope="col" key={kind} title={what}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {targets(demo).map(({ target, replica }) => (
            <tr key={target} data-replica={replica}>
              <th scope="row">{replica ? `/${target.split("/")[1]}` : target}</th>
              {KINDS.map(({ kind }) => (
                <td key={kind}>
                  <Switch
                    size="xs"
                    color="var(--critical)"
                    withThumbIndicator={false}
                    aria-label={`${kind} on ${target}`}
                    checked={isOn(demo, kind, target)}
                    disabled={toggle.isPending}
                    onChange={(event) => toggle.mutate({ kind, target, on: event.currentTarget.checked })}
                  />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      <p className={styles.lead}>
        The same from a terminal: <code>weir demo fault errors payments/2</code>
      </p>
    </aside>
  );
}
