//! The HTTP routes that people and tools read.

use std::sync::Arc;

use weir_model::{Clock, TenantId};

use crate::engine::Engine;

/// What every route needs.
#[derive(Debug, Clone)]
pub struct State {
    /// Answers the questions.
    pub engine: Arc<Engine>,
    /// Whose rows are read.
    pub tenant: TenantId,
    /// What `now` means in a query.
    pub clock: Clock,
}
