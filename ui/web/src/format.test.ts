import { describe, expect, test } from "vitest";
import * as format from "./format.ts";

describe("numbers", () => {
  test.each([
    [0, "0/s"],
    [0.2504, "0.25/s"],
    [12.34, "12.3/s"],
    [99.96, "100/s"],
    [345.6, "346/s"],
    [1234, "1.2k/s"],
    [null, "–"],
    [Number.NaN, "–"],
  ])("%s calls per second are %s", (value, text) => expect(format.rate(value)).toBe(text));

  test.each([
    [0, "0%"],
    [0.00001, "<0.01%"],
    [0.0042, "0.42%"],
    [0.0099999, "1%"],
    [0.125, "12.5%"],
    [0.5, "50%"],
    [1, "100%"],
    [null, "–"],
  ])("a share of %s is %s", (value, text) => expect(format.percent(value)).toBe(text));

  test.each([
    [0, "0 B"],
    [1000, "1000 B"],
    [1023.6, "1.0 KiB"],
    [1536, "1.5 KiB"],
    [134217728, "128 MiB"],
    [null, "–"],
  ])("%s bytes are %s", (value, text) => expect(format.bytes(value)).toBe(text));

  test("a share below one is never shown as all of it", () => {
    expect(format.percent(0.9996)).toBe("99.9%");
    expect(format.percent(0.99999)).toBe("99.9%");
  });

  test.each([
    [0, "0 ms"],
    [0.0001, "<1 µs"],
    [0.042, "42 µs"],
    [0.42, "0.42 ms"],
    [3.44, "3.4 ms"],
    [34.2, "34.2 ms"],
    [99.97, "100 ms"],
    [342.2, "342 ms"],
    [999.7, "1 s"],
    [1250, "1.25 s"],
    [12_340, "12.34 s"],
    [60_000, "1 min"],
    [90_000, "1.5 min"],
    [null, "–"],
    [undefined, "–"],
  ])("%s ms are %s", (value, text) => expect(format.millis(value)).toBe(text));

  test("nanoseconds take the unit that fits", () => {
    expect(format.nanos(30_000_000)).toBe("30.0 ms");
    expect(format.nanos(1_500)).toBe("2 µs");
    expect(format.nanos(null)).toBe("–");
  });

  test("counts have thousands apart and nouns agree with them", () => {
    expect(format.count(1_234_567)).toBe("1,234,567");
    expect(format.count(null)).toBe("–");
    expect(format.plural(1, "finding")).toBe("1 finding");
    expect(format.plural(0, "finding")).toBe("0 findings");
    expect(format.plural(2_000, "span")).toBe("2,000 spans");
  });

  test("a figure has three digits and no idle zeros", () => {
    expect(format.figure(9)).toBe("9");
    expect(format.figure(12.345)).toBe("12.3");
    expect(format.figure(0.5)).toBe("0.5");
    expect(format.figure(1234)).toBe("1,230");
    expect(format.figure(null)).toBe("–");
  });
});

describe("moments", () => {
  const now = new Date("2026-11-24T12:00:00Z");

  test("today has no date, other days have one", () => {
    const at = new Date(2026, 10, 24, 8, 5, 9);
    expect(format.clock(at.toISOString(), new Date(2026, 10, 24, 23))).toBe("08:05:09");
    expect(format.clock(at.toISOString(), new Date(2026, 10, 25))).toBe("2026-11-24 08:05:09");
    expect(format.clock(null)).toBe("–");
    expect(format.clock("soon")).toBe("–");
  });

  test.each([
    ["2026-11-24T11:59:59.500Z", "now"],
    ["2026-11-24T12:00:05Z", "now"],
    ["2026-11-24T11:59:57Z", "3 s ago"],
    ["2026-11-24T11:56:00Z", "4 min ago"],
    ["2026-11-24T09:00:00Z", "3 h ago"],
    ["2026-11-20T12:00:00Z", "4 d ago"],
    ["", "–"],
  ])("%s is %s", (moment, text) => expect(format.ago(moment, now.getTime())).toBe(text));

  test("what lasted is never negative", () => {
    expect(format.between("2026-11-24T12:00:00Z", "2026-11-24T12:01:00Z")).toBe("60 s");
    expect(format.between("2026-11-24T12:01:00Z", "2026-11-24T12:00:00Z")).toBe("0 s");
    expect(format.between(null, null)).toBe("–");
  });

  test("nanoseconds between moments are exact", () => {
    const start = "2026-11-24T12:00:00.000000007Z";
    expect(format.nanosBetween(start, "2026-11-24T12:00:00.000000008Z")).toBe(1);
    expect(format.nanosBetween(start, "2026-11-24T12:00:01.000000006Z")).toBe(999_999_999);
    expect(format.nanosBetween(start, "2026-11-24T11:59:59Z")).toBe(-1_000_000_007);
    expect(format.nanosBetween("2026-11-24T12:00:00Z", "2026-11-24T13:00:00.5+01:00")).toBe(500_000_000);
  });
});
