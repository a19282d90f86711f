// The real program: `weir demo` on ports of its own.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** A debug build that starts while something else compiles. */
const READY_WITHIN_MS = 60_000;
const STOPPED_WITHIN_MS = 10_000;
/** Lines of the program that are shown when it fails. */
const LAST_LINES = 40;

function binary() {
  const built = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "debug/weir");
  const path = process.env.WEIR_BIN ?? built;
  if (!existsSync(path)) throw new Error(`there is no \`${path}\`: run \`make build\` or set WEIR_BIN`);
  return path;
}

/** Starts the demo. `address` has `http`, `otlp_http` and `otlp_grpc`; `stop` ends the program. */
export async function startDemo() {
  const any = "127.0.0.1:0";
  const doors = ["--http", any, "--otlp-grpc", any, "--otlp-http", any];
  const child = spawn(binary(), ["demo", "--no-open", ...doors, "--seed", "7"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
  const said = [];
  const ready = new Promise((resolve) => {
    createInterface({ input: child.stderr }).on("line", (line) => {
      said.push(line);
      if (said.length > LAST_LINES) said.shift();
      if (line.startsWith("ready ")) resolve(line);
    });
  });
  const failed = (why) => new Error(`\`weir demo\` ${why}; it said:\n${said.join("\n")}`);
  const timer = deadline(READY_WITHIN_MS);
  const first = await Promise.race([
    ready.then((line) => ({ line })),
    exited.then((status) => ({ error: failed(`ended with ${status}`) })),
    timer.over.then(() => ({ error: failed(`was not ready within ${READY_WITHIN_MS / 1000} s`) })),
  ]);
  timer.cancel();
  if (first.error) {
    child.kill("SIGKILL");
    throw first.error;
  }
  const address = Object.fromEntries(
    first.line
      .split(" ")
      .slice(1)
      .map((part) => part.split("=")),
  );
  return {
    address,
    readyAt: performance.now(),
    said: () => said.join("\n"),
    /** Ends it as Ctrl+C would; returns how it ended. */
    async stop() {
      child.kill("SIGTERM");
      const late = deadline(STOPPED_WITHIN_MS);
      const status = await Promise.race([exited, late.over.then(() => "late")]);
      late.cancel();
      if (status === "late") child.kill("SIGKILL");
      return status;
    },
  };
}

function deadline(ms) {
  let timer;
  const over = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  return { over, cancel: () => clearTimeout(timer) };
}
