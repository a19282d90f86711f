// The web app in a real browser against the real program, one journey a page. The journeys share one demo
// and run in order: a failed trace needs the fault before it.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launch } from "./chromium.js";
import * as breaking from "./journeys/break.js";
import * as graph from "./journeys/graph.js";
import { staysText } from "./journeys/hostile.js";
import * as sql from "./journeys/sql.js";
import * as trace from "./journeys/trace.js";
import { startDemo } from "./weir.js";

describe("the web app", { concurrency: false }, () => {
  let demo;
  const on = {};

  before(async () => {
    // The browser first: the graph must move soon after the demo is ready.
    on.browser = await launch();
    demo = await startDemo();
    Object.assign(on, {
      origin: `http://${demo.address.http}`,
      otlp_http: demo.address.otlp_http,
      readyAt: demo.readyAt,
    });
  });

  after(async () => {
    await on.browser?.close();
    if (demo) assert.equal(await demo.stop(), 0, demo.said());
  });

  test("graph: moves within ten seconds, every service with live numbers", () => graph.movesSoon(on));
  test("graph: is walked with the keyboard alone", () => graph.worksFromTheKeyboard(on));
  test("graph: moves to what has the focus", () => graph.followsTheFocus(on));
  test("graph: shows the SQL behind its numbers, and it runs", () => graph.showsTheSql(on));
  test("every page is accessible in light and dark", () => graph.isAccessible(on));
  test("every page fits a narrow screen", () => graph.fitsNarrowScreens(on));
  test("sql: a query runs, a wrong one shows where", () => sql.typeAndRun(on));
  test("sql: every example runs", () => sql.examplesRun(on));
  test("break: a fault is found, acted upon and healed", () => breaking.breakAndMend(on));
  test("trace: a failed one opens from the panel", () => trace.failedTrace(on));
  test("trace: the list, and an id that is not there", () => trace.traceList(on));
  test("break: the fault is lifted", () => breaking.lifted(on));
  test("hostile telemetry stays text", () => staysText(on));
});
