// Telemetry is written by strangers: whatever it says is text, on every page that shows it.
import assert from "node:assert/strict";
import { openPage } from "../chromium.js";
import { sendCall } from "../otlp.js";
import { until } from "../wait.js";

const attack = (place) => `<img src=x onerror="window.__ran='${place}'">`;
const CLIENT = attack("client");
const SERVER = `"><script>window.__ran='server'</script>`;
const NAME = attack("name");
const EXTRA = {
  [attack("key")]: attack("value"),
  "http.route": "javascript:window.__ran='route'",
};

export async function staysText({ browser, origin, otlp_http }) {
  const trace = await sendCall(otlp_http, {
    client: CLIENT,
    server: SERVER,
    name: NAME,
    extra: EXTRA,
    message: attack("message"),
  });
  await until("the trace can be read", async () => (await fetch(`${origin}/api/traces/${trace}`)).ok);
  const { page, clean, shot, close } = await openPage(browser, origin);
  const harmless = async () => {
    assert.equal(await page.evaluate(() => window.__ran), undefined);
    assert.equal(await page.locator("main img, main script").count(), 0);
  };

  await page.goto(`/traces/${trace}`);
  await until("both spans", async () => (await page.getByTestId("span").count()) === 2, { within: 20_000 });
  const [first, second] = await page.getByTestId("span").allTextContents();
  assert.ok(first.includes(CLIENT) && first.includes(NAME), first);
  assert.ok(second.includes(SERVER), second);
  await page.getByTestId("span").first().click();
  const details = await page.getByTestId("span-details").textContent();
  for (const text of [attack("key"), attack("value"), attack("message"), EXTRA["http.route"]]) {
    assert.ok(details.includes(text), `\`${text}\` in \`${details}\``);
  }
  await shot("hostile-trace");
  await harmless();

  await page.goto(`/traces?service=${encodeURIComponent(JSON.stringify(CLIENT))}`);
  await page.getByText(NAME).first().waitFor();
  await harmless();

  const query = `SELECT service, name, attributes FROM spans WHERE trace_id = '${trace}'`;
  await page.goto(`/sql?q=${encodeURIComponent(JSON.stringify(query))}`);
  await page.getByTestId("result").getByText(NAME).first().waitFor();
  await harmless();

  await page.goto("/");
  const node = page.locator('[data-testid="node"]').filter({ hasText: SERVER });
  await node.waitFor({ timeout: 20_000 });
  await node.click();
  await page.getByTestId("panel").getByRole("heading", { name: SERVER }).waitFor();
  await shot("hostile-graph");
  await harmless();
  clean();
  await close();
}
