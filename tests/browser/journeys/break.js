// Break a replica from the page, see the mesh find it, act and heal; mend it again.
import assert from "node:assert/strict";
import { accessible } from "../axe.js";
import { openPage } from "../chromium.js";
import { until } from "../wait.js";

/** From the fault to a finding and a hint, with room for a busy machine. */
const SEEN_WITHIN_MS = 25_000;
const HEALED_WITHIN_MS = 20_000;
/** Seconds in a row without a failure that count as healed. */
const CALM_SECONDS = 3;

/** What clients of the shop saw in each of the last seconds. */
async function seconds(page) {
  const answer = await page.request.get("/api/demo/stats");
  return (await answer.json()).seconds;
}

export async function breakAndMend({ browser, origin }) {
  const { page, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/");
  await page.locator('[data-testid="node"][data-service="payments"]').waitFor();
  await page.getByRole("button", { name: /^Faults/ }).click();
  const fault = page.getByRole("switch", { name: "errors on payments/2", exact: true });
  await page.getByLabel("Faults of the demo").waitFor();
  await fault.focus();
  await page.keyboard.press("Space");
  await until("the fault is on", () => fault.isChecked());

  const edge = page.locator('[data-testid="edge"][data-client="checkout"][data-server="payments"]');
  await until(
    "the edge to payments is not well",
    async () => ["warning", "critical"].includes(await edge.getAttribute("data-health")),
    { within: SEEN_WITHIN_MS },
  );
  const breaker = edge.getByTestId("breaker").filter({ hasText: "1 ejected" });
  await breaker.waitFor({ timeout: SEEN_WITHIN_MS });
  await shot("break-graph");

  await page.getByRole("link", { name: /^Health/ }).click();
  const finding = page.getByTestId("finding").filter({ hasText: "payments-2" }).first();
  await finding.waitFor();
  assert.match(await finding.textContent(), /errors|outage/);
  assert.notEqual(await finding.getAttribute("data-state"), "resolved");
  const hint = page.locator('[data-testid="hint"][data-active="true"]').filter({ hasText: "payments-2" });
  await hint.first().waitFor();
  await until("a proxy applied the hint", async () => /applied/.test(await hint.first().textContent()));
  await accessible(page, "the health page with a finding");
  await shot("break-health");

  await until(
    "clients see no more errors although the replica still fails",
    async () => {
      const last = (await seconds(page)).slice(-CALM_SECONDS);
      return last.length === CALM_SECONDS && last.every(({ ok, errors }) => ok > 0 && errors === 0);
    },
    { within: HEALED_WITHIN_MS },
  );
  clean();
  await close();
}

export async function lifted({ browser, origin }) {
  const { page, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/health?faults=true");
  const fault = page.getByRole("switch", { name: "errors on payments/2", exact: true });
  await until("the fault is still on", () => fault.isChecked());
  await fault.focus();
  await page.keyboard.press("Space");
  await until("the fault is off", async () => !(await fault.isChecked()));
  const answer = await page.request.get("/api/demo");
  assert.deepEqual((await answer.json()).faults, []);
  await shot("break-lifted");
  clean();
  await close();
}
