// The fingerprint of what a bundle is built from. `ui/build.rs` computes the same over the same files and
// compares it with `dist/build-info.json`, so that a stale bundle is noticed.
//
// SHA-256 over one line a file, sorted by the bytes of its path: `<path relative to ui/web, with slashes>`,
// a NUL, the lowercase hex SHA-256 of its content, a newline.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** Files and folders that the bundle depends on, relative to `ui/web`. */
export const INPUTS = [
  "build",
  "index.html",
  "package-lock.json",
  "package.json",
  "public",
  "src",
  "tsconfig.json",
  "vite.config.ts",
];

function filesUnder(root: string, path: string): string[] {
  if (statSync(join(root, path)).isFile()) return [path];
  return readdirSync(join(root, path))
    .filter((name) => !name.startsWith("."))
    .flatMap((name) => filesUnder(root, `${path}/${name}`));
}

/** The fingerprint of the sources in `root`. */
export function fingerprint(root: string): string {
  const paths = INPUTS.flatMap((input) => filesUnder(root, input));
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const total = createHash("sha256");
  for (const path of paths) {
    const content = createHash("sha256")
      .update(readFileSync(join(root, path)))
      .digest("hex");
    total.update(`${path}\0${content}\n`);
  }
  return total.digest("hex");
}
