// A colour of its own for each service, the same on every visit.

/** As a CSS colour of one lightness, so that none shouts. */
export function serviceHue(service: string): string {
  let hash = 2166136261;
  for (let i = 0; i < service.length; i++) hash = Math.imul(hash ^ service.charCodeAt(i), 16777619);
  return `oklch(0.64 0.11 ${(hash >>> 0) % 360})`;
}
