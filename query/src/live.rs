//! The live loop: once a second it feeds the closed tick to the analysis, stores what came of it and publishes the hints.
