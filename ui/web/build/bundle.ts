// What happens to a finished bundle: its initial JavaScript is weighed, every text file gets precompressed
// copies beside it, and `build-info.json` says which sources it was made from.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";
import { fingerprint } from "./fingerprint.ts";

/** Initial JavaScript, gzipped, may not outgrow this. */
const INITIAL_JS_BUDGET_BYTES = 350 * 1024;
/** Files smaller than this gain nothing from compression. */
const COMPRESS_FROM_BYTES = 1024;
const TEXT = /\.(js|css|html|svg|json)$/;

function filesUnder(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? filesUnder(path) : [path];
  });
}

/** The scripts that `index.html` loads or preloads. */
function initialScripts(html: string): string[] {
  return [...html.matchAll(/(?:src|href)="\/([^"]+\.js)"/g)].flatMap((match) => match[1] ?? []);
}

/** Weighs, compresses and stamps what Vite wrote. */
export function finishBundle(): Plugin {
  let root = "";
  let out = "";
  return {
    name: "weir-finish-bundle",
    apply: "build",
    configResolved(config) {
      root = config.root;
      out = join(config.root, config.build.outDir);
    },
    closeBundle() {
      const html = readFileSync(join(out, "index.html"), "utf8");
      const scripts = initialScripts(html);
      const weight = scripts.reduce((sum, path) => sum + gzipSync(readFileSync(join(out, path))).length, 0);
      if (scripts.length === 0 || weight > INITIAL_JS_BUDGET_BYTES) {
        throw new Error(
          `initial JavaScript is ${weight} bytes gzipped in ${scripts.length} files, budget ${INITIAL_JS_BUDGET_BYTES}`,
        );
      }
      for (const path of filesUnder(out)) {
        const content = readFileSync(path);
        if (!TEXT.test(path) || content.length < COMPRESS_FROM_BYTES) continue;
        writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
        const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
        writeFileSync(`${path}.br`, brotliCompressSync(content, { params: quality }));
      }
      const info = { sources_sha256: fingerprint(root), initial_js_gzip_bytes: weight };
      writeFileSync(join(out, "build-info.json"), `${JSON.stringify(info)}\n`);
      // `emptyOutDir` took it away; without it the folder would be committed.
      writeFileSync(join(out, ".gitignore"), "*\n!.gitignore\n");
      this.info(`initial JavaScript: ${(weight / 1024).toFixed(1)} kB gzipped`);
    },
  };
}
