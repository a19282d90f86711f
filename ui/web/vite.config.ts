import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { finishBundle } from "./build/bundle.ts";

/** Where `npm run dev` finds a running Weir. */
const server = process.env.WEIR_HTTP ?? "http://127.0.0.1:4319";

export default defineConfig({
  plugins: [react(), finishBundle()],
  build: { target: "es2023", sourcemap: false, reportCompressedSize: false, chunkSizeWarningLimit: 1200 },
  server: { proxy: { "/api": server } },
});
