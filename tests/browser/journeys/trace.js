// From a panel to a failed trace, its waterfall, and what one span says.
import assert from "node:assert/strict";
import { accessible } from "../axe.js";
import { openPage } from "../chromium.js";
import { until } from "../wait.js";

export async function failedTrace({ browser, origin }) {
  const { page, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/?node=payments");
  const panel = page.getByTestId("panel");
  const failed = panel.getByRole("table", { name: "Failed traces" });
  await failed.waitFor();
  const link = failed.getByTestId("trace-link").first();
  await link.focus();
  await page.keyboard.press("Enter");

  const waterfall = page.getByTestId("waterfall");
  await waterfall.waitFor();
  const spans = waterfall.getByTestId("span");
  await until("spans of several services", async () => {
    const texts = await spans.allTextContents();
    return texts.length >= 4 && texts.some((text) => text.includes("payments"));
  });
  const names = await spans.evaluateAll((all) => all.map((span) => span.getAttribute("aria-label")));
  const broken = names.findIndex((name) => name.startsWith("payments ") && name.endsWith(", failed"));
  assert.ok(broken >= 0, `a failed span of payments among: ${names.join(" | ")}`);

  await spans.nth(broken).focus();
  await page.keyboard.press("Enter");
  const details = page.getByTestId("span-details");
  await details.waitFor();
  const text = await details.textContent();
  assert.match(text, /error/);
  assert.match(text, /service\.name/);
  assert.match(text, /http\.(response\.)?status_code/);
  assert.match(text, /payments-\d/);
  await accessible(page, "a trace with the details of a span");
  await shot("trace");
  const address = page.url();

  // Folding the first span leaves it alone.
  const before = await spans.count();
  const fold = waterfall.getByRole("button", { expanded: true }).first();
  await fold.focus();
  await page.keyboard.press("Enter");
  await until("the spans below are hidden", async () => (await spans.count()) < before);
  await page.keyboard.press("Enter");
  await until("and come back", async () => (await spans.count()) === before);

  await page.goto(address);
  await details.waitFor();
  assert.match(await details.textContent(), /service\.name/, "the address holds the selected span");
  clean();
  await close();
}

export async function traceList({ browser, origin }) {
  const { page, expect, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/traces");
  const table = page.getByRole("table", { name: "Traces" });
  await table.waitFor();
  const all = await table.locator("tbody tr").count();
  assert.ok(all > 0);
  await page.getByText("slowest", { exact: true }).click();
  await until("the order is in the address", () => page.url().includes("sort=slow"));
  await table.waitFor();
  await shot("traces");

  expect(/404/);
  await page.goto(`/traces/${"f".repeat(32)}`);
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.match(await alert.textContent(), /no trace/);
  clean();
  await close();
}
