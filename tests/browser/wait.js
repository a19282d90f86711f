// Waiting for something to become true, with a deadline; never for time to pass.

const POLL_MS = 100;

/**
 * Asks `condition` until it answers something true, and returns that. `what` names it in the error; an
 * exception counts as not yet.
 */
export async function until(what, condition, { within = 10_000 } = {}) {
  const deadline = performance.now() + within;
  let last;
  do {
    try {
      const answer = await condition();
      if (answer) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  } while (performance.now() < deadline);
  throw new Error(`not within ${within / 1000} s: ${what}; last: ${last?.stack ?? JSON.stringify(last)}`);
}
