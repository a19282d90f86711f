//! What telemetry means: ticks, detectors, blame, findings, hints. Pure: same rows and same `now` give the same result.
