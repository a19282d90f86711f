// Keeps what matters in view while services, room, selection and keyboard focus change.
import { useReactFlow, useStore } from "@xyflow/react";
import { useEffect } from "react";
import type { Graph } from "../../api/types.ts";

/** Below the least zoom nothing could be read; the map is moved instead. */
export const FIT = { padding: 0.06, minZoom: 0.45, maxZoom: 1.15 };
/** Where all services would be smaller than this, what is selected is shown with its neighbours alone. */
const READABLE_ZOOM = 0.6;
/** Between what has the focus and the border of the map. */
const MARGIN_PX = 24;

/** The services to see when there is no room for all: the selected one and those it talks to. */
export function surroundings(graph: Graph, node: string | undefined, edge: string | undefined): string[] {
  const calls = graph.edges.filter((it) => it.id === edge || it.client === node || it.server === node);
  const ends = calls.flatMap((it) => [it.client, it.server]);
  return [...new Set(node === undefined ? ends : [node, ...ends])].filter((id) =>
    graph.nodes.some((it) => it.id === id),
  );
}

interface RefitProps {
  shape: string;
  focus: string[];
  moved: React.RefObject<boolean>;
}

/**
 * Shows everything again when a service or an edge comes or goes, and when a panel or the window takes or
 * gives back room or another part is selected; the latter only until the map was moved by hand.
 */
export function Refit({ shape, focus, moved }: RefitProps) {
  const flow = useReactFlow();
  const size = { width: useStore(({ width }) => width), height: useStore(({ height }) => height) };
  const room = `${size.width} ${size.height}`;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the shape is what it waits for
  useEffect(() => {
    moved.current = false;
    return afterLayout(() => flow.fitView(FIT));
  }, [shape]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the room is what it waits for
  useEffect(() => {
    if (moved.current) return;
    return afterLayout(() => {
      const { width, height } = flow.getNodesBounds(flow.getNodes());
      const zoom = Math.min(size.width / width, size.height / height) * (1 - 2 * FIT.padding);
      const narrow = focus.length > 0 && zoom < READABLE_ZOOM;
      flow.fitView(narrow ? { ...FIT, nodes: focus.map((id) => ({ id })), maxZoom: 0.9 } : FIT);
    });
  }, [room, focus.join("\n")]);
  useFocusInView();
  return null;
}

/** Moves the map when the keyboard reaches what is outside of it. */
function useFocusInView() {
  const flow = useReactFlow();
  const map = useStore(({ domNode }) => domNode);
  useEffect(() => {
    let stop = () => {};
    const follow = ({ target }: FocusEvent) => {
      if (!map || !(target instanceof HTMLElement) || !target.matches("[data-testid]:focus-visible")) return;
      stop();
      // The browser scrolls to what has the focus, and the map scrolls back: look after that.
      stop = afterLayout(() => {
        const [seen, part] = [map.getBoundingClientRect(), target.getBoundingClientRect()];
        const by = {
          x: shift(part.left, part.right, seen.left, seen.right),
          y: shift(part.top, part.bottom, seen.top, seen.bottom),
        };
        if (by.x === 0 && by.y === 0) return;
        const { x, y, zoom } = flow.getViewport();
        flow.setViewport({ x: x + by.x, y: y + by.y, zoom });
      });
    };
    map?.addEventListener("focusin", follow);
    return () => {
      stop();
      map?.removeEventListener("focusin", follow);
    };
  }, [flow, map]);
}

/** How far a stretch must move to lie inside of another. */
function shift(from: number, to: number, least: number, most: number): number {
  if (from < least) return least - from + MARGIN_PX;
  return to > most ? most - to - MARGIN_PX : 0;
}

/** Two frames later the map knows its new size. */
function afterLayout(action: () => void): () => void {
  let frame = requestAnimationFrame(() => {
    frame = requestAnimationFrame(action);
  });
  return () => cancelAnimationFrame(frame);
}
