// The service graph: alive soon after the start, walked with the keyboard, and every number with its SQL.
import assert from "node:assert/strict";
import { accessible } from "../axe.js";
import { openPage } from "../chromium.js";
import { until } from "../wait.js";

const SERVICES = [
  "storefront",
  "cart",
  "cart-db",
  "catalog",
  "recommendations",
  "checkout",
  "payments",
  "shipping",
  "bank-api",
];
/** From `weir demo`'s line `ready` to a graph in motion. */
const MOVING_WITHIN_MS = 10_000;

/** The names of the services with their numbers, as a person reads them. */
function numbers(page) {
  return page
    .getByTestId("node")
    .evaluateAll((nodes) =>
      Object.fromEntries(nodes.map((node) => [node.dataset.service, node.textContent])),
    );
}

export async function movesSoon({ browser, origin, readyAt }) {
  const { page, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/");
  const left = () => Math.max(MOVING_WITHIN_MS - (performance.now() - readyAt), 0);
  const first = await until(
    "a service with calls on the graph",
    async () => {
      const all = await numbers(page);
      return Object.values(all).some((text) => /[1-9][\d.k]*\/s/.test(text)) && all;
    },
    { within: left() },
  );
  await until(
    "other numbers than before",
    async () => JSON.stringify(await numbers(page)) !== JSON.stringify(first),
    { within: left() },
  );
  await until(
    "every service of the shop, each with calls",
    async () => {
      const all = await numbers(page);
      return SERVICES.every((name) => /[1-9][\d.k]*\/s/.test(all[name] ?? ""));
    },
    { within: 15_000 },
  );
  await until("calls on every edge", async () => {
    const labels = await page.getByTestId("edge").allTextContents();
    return labels.length >= 9 && labels.every((label) => /[1-9][\d.k]*\/s/.test(label));
  });
  await shot("graph");
  clean();
  await close();
}

/** Presses Tab until `locator` has the focus. */
async function tabTo(page, locator, most = 60) {
  for (let presses = 0; presses < most; presses++) {
    if (await locator.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`not reached within ${most} presses of Tab`);
}

export async function worksFromTheKeyboard({ browser, origin }) {
  const { page, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/");
  const node = page.locator('[data-testid="node"][data-service="payments"]');
  await node.waitFor();
  await tabTo(page, node);
  await page.keyboard.press("Enter");
  const panel = page.getByTestId("panel");
  await panel.waitFor();
  await until(
    "two charts with points",
    async () => {
      const charts = await panel
        .locator("[data-points]")
        .evaluateAll((all) => all.map((it) => it.dataset.points));
      return charts.length === 2 && charts.every((points) => Number(points) > 0);
    },
    { within: 30_000 },
  );
  await until("both are drawn", async () => (await panel.locator("[data-points] canvas").count()) === 2);
  for (const title of ["Slow traces", "Failed traces", "Called by", "Calls"]) {
    await panel.getByRole("heading", { name: title, exact: true }).waitFor();
  }
  await until("slow traces", async () => (await panel.getByTestId("trace-link").count()) > 0);
  await until(
    "three replicas",
    async () => {
      const replicas = await panel.getByTestId("replicas").locator("tbody tr").allTextContents();
      return replicas.length === 3 && replicas.every((row, index) => row.startsWith(`payments-${index + 1}`));
    },
    { within: 20_000 },
  );
  await shot("graph-node");
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
  await until("the focus is back", () => node.evaluate((element) => element === document.activeElement));

  const edge = page.locator('[data-testid="edge"][data-client="checkout"][data-server="payments"]');
  await tabTo(page, edge);
  await page.keyboard.press("Enter");
  await panel.locator("h2", { hasText: "checkout→payments" }).waitFor();
  await until("a chart with points", async () => (await panel.locator("[data-points]").count()) === 2);
  await shot("graph-edge");
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });
  clean();
  await close();
}

export async function followsTheFocus({ browser, origin }) {
  const { page, clean, shot, close } = await openPage(browser, origin, { width: 390, height: 844 });
  await page.goto("/");
  for (const service of ["storefront", "bank-api"]) {
    const node = page.locator(`[data-testid="node"][data-service="${service}"]`);
    await node.waitFor();
    await tabTo(page, node);
    await until(`${service} is in view`, async () => {
      const { x, width } = await node.boundingBox();
      return x >= 0 && x + width <= 390;
    });
  }
  await shot("narrow-focus");
  clean();
  await close();
}

export async function showsTheSql({ browser, origin }) {
  const { page, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/?edge=checkout%3Epayments%3Ahttp");
  const panel = page.getByTestId("panel");
  await panel.waitFor();
  const buttons = panel.getByRole("button", { name: /^SQL of / });
  await until("SQL of numbers, charts, replicas and traces", async () => (await buttons.count()) >= 5);
  for (const name of await buttons.evaluateAll((all) => all.map((it) => it.getAttribute("aria-label")))) {
    const button = panel.getByRole("button", { name, exact: true }).first();
    await button.click();
    const text = await page.getByTestId("sql-text").textContent();
    await page.keyboard.press("Escape");
    await page.getByTestId("sql-text").waitFor({ state: "detached" });
    assert.ok(await panel.isVisible(), "Escape closes the popover first");
    const answer = await page.request.post("/api/sql", { data: { query: text } });
    const json = await answer.json();
    assert.equal(answer.status(), 200, `${name}: ${JSON.stringify(json)}`);
    if (!/traces/i.test(name)) assert.ok(json.rows.length > 0, `${name} has rows`);
  }

  await panel.getByRole("button", { name: "SQL of Replicas" }).click();
  await shot("graph-sql");
  await page.getByRole("link", { name: "Open in SQL page" }).click();
  await page.getByTestId("result").waitFor();
  const head = await page.getByTestId("result").locator("th").allTextContents();
  assert.deepEqual(
    head.map((column) => column.split(" ")[0]),
    ["endpoint", "calls", "error_rate", "probes", "p50_ms", "p99_ms"],
  );
  const rows = await page.getByTestId("result").locator("tbody tr").allTextContents();
  assert.equal(rows.length, 3, rows.join(" | "));
  clean();
  await close();
}

export async function isAccessible({ browser, origin }) {
  for (const scheme of ["light", "dark"]) {
    const { page, clean, shot, close } = await openPage(browser, origin, { scheme });
    await page.goto("/?node=payments&faults=true");
    await page.getByTestId("panel").getByTestId("trace-link").first().waitFor();
    await accessible(page, `the graph with its panels, ${scheme}`);
    await shot(`graph-panels-${scheme}`);
    for (const path of ["/traces", "/health", "/sql", "/status"]) {
      await page.goto(path);
      await page.locator("main h1").first().waitFor();
      await accessible(page, `${path}, ${scheme}`);
      await shot(`page${path.replace("/", "-")}-${scheme}`);
    }
    clean();
    await close();
  }
}

export async function fitsNarrowScreens({ browser, origin }) {
  const { page, clean, shot, close } = await openPage(browser, origin, { width: 390, height: 844 });
  for (const path of ["/", "/?node=payments", "/?faults=true", "/traces", "/health", "/sql", "/status"]) {
    await page.goto(path);
    await page.locator("main h1").first().waitFor();
    if (path.includes("node")) await page.getByTestId("panel").getByTestId("replicas").waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${path} is ${wide} pixels wider than the screen`);
    await page.getByRole("button", { name: /^Use (dark|light) colours$/ }).click({ trial: true });
    await shot(`narrow${path.replaceAll(/\W+/g, "-")}`);
  }
  clean();
  await close();
}
