// The few pictures of the app, drawn in the colour of the text around them.

const SHAPES = {
  ok: "M3.5 8.5l3 3 6-7",
  warning: "M8 3v6M8 12.2v.3",
  critical: "M4 4l8 8M12 4l-8 8",
  idle: "M4 8h8",
  lock: "M4.5 7.5h7v5.5h-7zM6 7.5V5a2 2 0 0 1 4 0v2.5",
  breaker: "M1.5 10h4l5-5M10.5 10h4",
  fault: "M9 2L4 9h4l-1 5 5-7H8z",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1.2v1.4M8 13.4v1.4M1.2 8h1.4M13.4 8h1.4M3.2 3.2l1 1M11.8 11.8l1 1M3.2 12.8l1-1M11.8 4.2l1-1",
  moon: "M13 9.5A5.5 5.5 0 1 1 6.5 3a4.5 4.5 0 0 0 6.5 6.5z",
  close: "M4 4l8 8M12 4l-8 8",
  right: "M6 3.5L10.5 8 6 12.5",
  down: "M3.5 6L8 10.5 12.5 6",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.4 10.4L14 14",
} as const;

export type IconName = keyof typeof SHAPES;

/** A picture. It says nothing to a screen reader: the text beside it does. */
export function Icon({ name, size = 14 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path
        d={SHAPES[name]}
        fill="none"
        stroke="currentColor"
        strokeWidth={name === "ok" || name === "critical" || name === "warning" ? 2 : 1.5}
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
