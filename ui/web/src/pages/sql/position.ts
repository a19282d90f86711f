// Places in a text, by line and column from 1.
import type { Position } from "../../api/client.ts";

/** The index into `text` of a place; the nearest one where there is no such place. */
export function offsetAt(text: string, { line, column }: Position): number {
  const lines = text.split("\n");
  const index = Math.min(Math.max(line, 1), lines.length) - 1;
  const before = lines.slice(0, index).reduce((sum, each) => sum + each.length + 1, 0);
  return before + Math.min(Math.max(column, 1) - 1, lines[index]?.length ?? 0);
}

/** The line of a place, and a mark under the place. */
export function snippet(text: string, { line, column }: Position): string {
  const source = text.split("\n")[line - 1];
  if (source === undefined) return "";
  const before = source.slice(0, Math.max(column, 1) - 1);
  // Tabs stay tabs, so that the mark stands under its character.
  return `${source}\n${before.replace(/[^\t]/g, " ")}^`;
}
