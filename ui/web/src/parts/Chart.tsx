// A line chart over time. Colours follow the theme; the latest values stand beside it as text.
import { useComputedColorScheme } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import styles from "./Chart.module.css";

/** Times on the axis are whole minutes. */
const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 360].map((minutes) => minutes * 60);

/** One line: values by point, `null` where nothing was measured. */
export interface Line {
  label: string;
  values: (number | null)[];
  tone: "series-1" | "series-2" | "series-3" | "critical" | "idle";
  fill?: boolean;
}

interface Props {
  title: string;
  /** Unix seconds of the points. */
  times: number[];
  lines: Line[];
  format: (value: number | null) => string;
  height?: number;
}

export function Chart({ title, times, lines, format, height = 120 }: Props) {
  const { ref, width } = useElementSize();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const scheme = useComputedColorScheme();
  const shape = lines.map((line) => `${line.label}/${line.tone}`).join();
  const latest = useRef({ times, lines, format });
  latest.current = { times, lines, format };

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new plot for a new size, scheme or set of lines only
  useEffect(() => {
    if (!host.current || width === 0) return;
    const made = new uPlot(
      options(latest.current.lines, width, height, (v) => latest.current.format(v)),
      data(latest.current),
      host.current,
    );
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [width, height, scheme, shape]);

  useEffect(() => {
    plot.current?.setData(data({ times, lines }));
  }, [times, lines]);

  const summary = lines.map((line) => `${line.label} ${format(line.values.at(-1) ?? null)}`).join(", ");
  return (
    <figure className={styles.figure}>
      <figcaption className={styles.caption}>
        <span>{title}</span>
        {lines.map((line) => (
          <span key={line.label} className={styles.legend}>
            <i style={{ background: `var(--${line.tone})` }} />
            {line.label} <b>{format(line.values.at(-1) ?? null)}</b>
          </span>
        ))}
      </figcaption>
      <div
        ref={ref}
        role="img"
        aria-label={`${title} over time; latest: ${summary}`}
        data-points={times.length}
      >
        <div ref={host} style={{ height }} />
      </div>
    </figure>
  );
}

function data({ times, lines }: { times: number[]; lines: Line[] }): uPlot.AlignedData {
  return [times, ...lines.map((line) => line.values)];
}

function options(
  lines: Line[],
  width: number,
  height: number,
  format: (value: number | null) => string,
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const axis: uPlot.Axis = {
    stroke: colour("dim"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height,
    padding: [6, 16, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 }, sync: { key: "weir" } },
    legend: { show: false },
    scales: { y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [
      { ...axis, size: 22, space: 60, incrs: TIME_STEPS_S, values: (_plot, ticks) => ticks.map(timeTick) },
      {
        ...axis,
        size: 52,
        space: 26,
        values: (_plot, ticks) => ticks.map((tick) => format(tick).replace(/\.0+(?!\d)/, "")),
      },
    ],
    series: [
      {},
      ...lines.map((line): uPlot.Series => {
        const stroke = colour(line.tone);
        const fill = line.fill ? { fill: `${stroke}22` } : {};
        return { label: line.label, stroke, width: 1.5, points: { show: false }, spanGaps: false, ...fill };
      }),
    ],
    plugins: [tooltip(lines, format)],
  };
}

function timeTick(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

/** The values under the pointer, as text. */
function tooltip(lines: Line[], format: (value: number | null) => string): uPlot.Plugin {
  const box = document.createElement("div");
  box.className = styles.tooltip ?? "";
  return {
    hooks: {
      ready: (plot) => plot.over.append(box),
      setCursor: (plot) => {
        const index = plot.cursor.idx;
        const time = typeof index === "number" ? plot.data[0][index] : undefined;
        box.hidden = typeof index !== "number" || time === undefined;
        if (typeof index !== "number" || time === undefined) return;
        const values = lines.map((line, i) => `${line.label} ${format(plot.data[i + 1]?.[index] ?? null)}`);
        box.textContent = [new Date(time * 1000).toLocaleTimeString("en-GB"), ...values].join(" · ");
        const left = plot.cursor.left ?? 0;
        box.style.left = `${Math.max(0, Math.min(left - box.offsetWidth / 2, plot.over.clientWidth - box.offsetWidth))}px`;
      },
    },
  };
}
