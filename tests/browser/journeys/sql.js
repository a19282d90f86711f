// Questions in SQL: typed, run from the keyboard, and errors where they are.
import assert from "node:assert/strict";
import { accessible } from "../axe.js";
import { openPage } from "../chromium.js";
import { until } from "../wait.js";

const WRONG = "SELECT service\nFROM spans\nWHERE servic = 'cart'";

export async function typeAndRun({ browser, origin }) {
  const { page, expect, clean, shot, close } = await openPage(browser, origin);
  await page.goto("/sql");
  const editor = page.getByTestId("editor");
  await editor.fill("");
  await editor.pressSequentially(
    "SELECT service, count(*) AS spans FROM spans GROUP BY service ORDER BY service",
  );
  await page.keyboard.press("Control+Enter");
  const result = page.getByTestId("result");
  await result.waitFor();
  const rows = await result.locator("tbody tr").allTextContents();
  assert.ok(
    rows.some((row) => /^payments\d+$/.test(row)),
    rows.join(" | "),
  );
  assert.match(await page.getByTestId("stats").textContent(), /^\d+ rows? · /);
  assert.ok(page.url().includes("q="), "the query is in the address");
  await accessible(page, "an answer in SQL");
  await shot("sql");

  // The server's 400 is an error on the console too; the page must show it all the same.
  expect(/status of 400/);
  await editor.fill(WRONG);
  await page.keyboard.press("Control+Enter");
  const error = page.getByTestId("sql-error");
  await error.waitFor();
  const text = await error.textContent();
  assert.match(text, /no column servic/);
  assert.match(text, /line 3, column 7/);
  assert.match(text, /service/);
  await accessible(page, "an error in SQL");
  await shot("sql-error");
  await page.getByRole("button", { name: "line 3, column 7" }).click();
  const marked = await editor.evaluate((it) => it.value.slice(it.selectionStart));
  assert.ok(marked.startsWith("servic ="), `the cursor stands before \`${marked}\``);
  clean();
  await close();
}

export async function examplesRun({ browser, origin }) {
  const { page, clean, close } = await openPage(browser, origin);
  await page.goto("/sql");
  await page.getByTestId("editor").waitFor();
  const titles = await page.locator("form button[type=button]").allTextContents();
  assert.ok(titles.length >= 5);
  for (const title of titles) {
    const answered = page.waitForResponse((response) => response.url().endsWith("/api/sql"));
    await page.getByRole("button", { name: title, exact: true }).click();
    const answer = await answered;
    assert.equal(answer.status(), 200, title);
    await until(`${title} is answered`, () => page.getByTestId("stats").isVisible());
  }
  clean();
  await close();
}
