// Accessibility by axe's rules.
import assert from "node:assert/strict";
import axe from "axe-core";

const GRAVE = new Set(["serious", "critical"]);

/** Fails where the page as it is now breaks a rule seriously. */
export async function accessible(page, what) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations
    .filter((violation) => GRAVE.has(violation.impact))
    .map(({ id, help, nodes }) => ({
      rule: `${id}: ${help}`,
      nodes: nodes.slice(0, 4).map((node) => `${node.html.slice(0, 160)} — ${node.failureSummary}`),
    }));
  assert.deepEqual(grave, [], what);
}
