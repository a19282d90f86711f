import { expect, test } from "vitest";
import { offsetAt, snippet } from "./position.ts";

const QUERY = "select *\nfrom spans\n\twhere servic = 'x'";

test("a place is found in its line", () => {
  expect(QUERY.slice(offsetAt(QUERY, { line: 3, column: 8 })).startsWith("servic")).toBe(true);
  expect(offsetAt(QUERY, { line: 1, column: 1 })).toBe(0);
  expect(offsetAt(QUERY, { line: 2, column: 1 })).toBe(9);
});

test("a place that is not there becomes the nearest", () => {
  expect(offsetAt("select 1 +", { line: 1, column: 11 })).toBe(10);
  expect(offsetAt("select 1 +", { line: 1, column: 99 })).toBe(10);
  expect(offsetAt("select 1 +", { line: 9, column: 3 })).toBe(2);
  expect(offsetAt("select 1 +", { line: 0, column: 0 })).toBe(0);
  expect(offsetAt("", { line: 1, column: 1 })).toBe(0);
});

test("the mark stands under its character, after tabs too", () => {
  expect(snippet(QUERY, { line: 2, column: 6 })).toBe("from spans\n     ^");
  expect(snippet(QUERY, { line: 3, column: 8 })).toBe("\twhere servic = 'x'\n\t      ^");
  expect(snippet("select 1 +", { line: 1, column: 11 })).toBe("select 1 +\n          ^");
  expect(snippet(QUERY, { line: 7, column: 1 })).toBe("");
});
