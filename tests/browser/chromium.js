// Debian's Chromium, and pages that note everything that must not happen on them.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

/** Screenshots for people; nothing reads them. */
const OUT = fileURLToPath(new URL("out/", import.meta.url));
const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const QUIET = [
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
];

export function launch() {
  return chromium.launch({ executablePath: EXECUTABLE, chromiumSandbox: false, args: QUIET });
}

/**
 * A page of the app at `origin`. `clean()` fails if anything was reported to the console, thrown, asked of
 * another host, or stopped by the content security policy.
 */
export async function openPage(browser, origin, { scheme = "light", width = 1440, height = 900 } = {}) {
  const context = await browser.newContext({
    baseURL: origin,
    colorScheme: scheme,
    viewport: { width, height },
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const trouble = [];
  const expected = [];
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    const text = `console ${message.type()}: ${message.text()} (${message.location().url})`;
    if (!expected.some((pattern) => pattern.test(text))) trouble.push(text);
  });
  page.on("pageerror", (error) => trouble.push(`exception: ${error.stack ?? error}`));
  page.on("dialog", (dialog) => {
    trouble.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  context.on("request", (request) => {
    const url = new URL(request.url());
    const own = url.origin === origin || url.protocol === "data:" || url.protocol === "blob:";
    if (!own) trouble.push(`request to another host: ${url}`);
  });
  page.on("response", (response) => {
    if (response.request().resourceType() !== "document") return;
    const policy = response.headers()["content-security-policy"] ?? "";
    if (!policy.includes("default-src 'self'") || /script-src[^;]*unsafe/.test(policy)) {
      trouble.push(`weak policy of ${response.url()}: \`${policy}\``);
    }
  });
  await context.exposeBinding("reportViolation", (_source, what) =>
    trouble.push(`policy violation: ${what}`),
  );
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) =>
      window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`),
    );
  });
  return {
    page,
    /** An error on the console that the journey provokes. */
    expect: (pattern) => expected.push(pattern),
    clean: () => assert.deepEqual(trouble, []),
    async shot(name) {
      mkdirSync(OUT, { recursive: true });
      await page.screenshot({ path: join(OUT, `${name}.png`) });
    },
    close: () => context.close(),
  };
}
