import { expect, test } from "vitest";
import { measured } from "./FindingCard.tsx";

test.each([
  ["error_rate", 0.5, "50%"],
  ["success_ratio", 0.995, "99.5%"],
  ["latency_p50_seconds", 0.12, "120 ms"],
  ["latency_p90_seconds", 1.5, "1.5 s"],
  ["duration_seconds", 1.5, "1.5 s"],
  ["p99_ms", 120, "120 ms"],
  ["calls", 12.5, "12.5"],
  ["error_rate", null, "–"],
  ["latency_p50_seconds", null, "–"],
])("%s of %s reads %s", (metric, value, shown) => expect(measured(metric, value)).toBe(shown));
