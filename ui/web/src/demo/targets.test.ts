import { expect, test } from "vitest";
import { isOn, targets } from "./targets.ts";

const DEMO = {
  faults: [{ kind: "errors", target: "payments/2" }],
  services: [
    { name: "cart", replicas: ["cart-1"] },
    { name: "payments", replicas: ["payments-1", "payments-2"] },
  ],
};

test("a service with replicas is followed by each of them, as the demo spells them", () => {
  expect(targets(DEMO).map(({ target }) => target)).toEqual(["cart", "payments", "payments/1", "payments/2"]);
  expect(targets(DEMO).map(({ replica }) => replica)).toEqual([false, false, true, true]);
});

test("a fault is on where the demo says so and nowhere else", () => {
  expect(isOn(DEMO, "errors", "payments/2")).toBe(true);
  expect(isOn(DEMO, "latency", "payments/2")).toBe(false);
  expect(isOn(DEMO, "errors", "payments")).toBe(false);
  expect(isOn(DEMO, "errors", "payments/1")).toBe(false);
});

test("a fault of the whole service is a fault of each replica", () => {
  const all = { ...DEMO, faults: [{ kind: "outage", target: "payments" }] };
  expect(isOn(all, "outage", "payments")).toBe(true);
  expect(isOn(all, "outage", "payments/1")).toBe(true);
  expect(isOn(all, "outage", "cart")).toBe(false);
});
