//! stub
use crate::call::Refusal;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
#[derive(Debug, Default)]
pub(crate) struct Gate;
impl Gate {
    pub(crate) fn share(&self) -> f64 {
        1.0
    }
    pub(crate) fn take_probe(&self, _now: Instant) -> bool {
        false
    }
}
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) latency: Duration,
    pub(crate) probe: bool,
}
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) local: bool,
    pub(crate) caller: Arc<str>,
    pub(crate) instance: Arc<str>,
    pub(crate) service: Arc<str>,
}
#[derive(Debug)]
pub(crate) struct Breakers;
impl Breakers {
    pub(crate) fn new(_: Settings, _: Instant) -> Self {
        Self
    }
    pub(crate) fn edge_gate(&self) -> Arc<Gate> {
        Arc::default()
    }
    pub(crate) fn set_endpoints(&mut self, _: Instant, _: impl Iterator<Item = (Arc<str>, Arc<Gate>)>) {}
    pub(crate) fn edge_refusal(&self) -> Option<Refusal> {
        None
    }
    pub(crate) fn result(&mut self, _: Instant, _: &str, _: Outcome) {}
    pub(crate) fn tick(&mut self, _: Instant) {}
}
