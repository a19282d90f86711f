import { expect, test } from "vitest";
import { hints } from "../api/decode.ts";
import type { Hint } from "../api/types.ts";
import { clock } from "../format.ts";
import { ending } from "./HintCard.tsx";

function hint(part: object): Hint {
  return hints({ hints: [{ ttl_ms: 15_000, issued_at: "2026-11-24T12:00:00.000000000Z", ...part }] })
    .hints[0] as Hint;
}

test("a hint ends when it is withdrawn, or a lease after its last renewal", () => {
  const withdrawn = "2026-11-24T12:00:40.000000000Z";
  expect(ending(hint({ withdrawn_at: withdrawn }))).toBe(`withdrawn ${clock(withdrawn)}`);
  expect(ending(hint({}))).toBe(`lapsed ${clock("2026-11-24T12:00:15Z")}`);
  expect(ending(hint({ renewed_at: "2026-11-24T12:01:00Z" }))).toBe(
    `lapsed ${clock("2026-11-24T12:01:15Z")}`,
  );
  expect(ending(hint({ issued_at: null }))).toBe("ended");
});
