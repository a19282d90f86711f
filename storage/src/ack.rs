//! What an answer to a writer promises.

use std::collections::HashMap;

use weir_model::TenantId;

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ack {
    /// When it is synced to the write-ahead log: it survives a power cut.
    #[default]
    Fsync,
    /// When the operating system has it: it survives the end of this process and may not survive a power cut.
    Os,
    /// When it is in a committed file of its table, a fraction of a second to a second later than a sync takes.
    Object,
}

impl Ack {
    /// The mode of that name: `fsync`, `os` or `object`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "fsync" => Some(Self::Fsync),
            "os" => Some(Self::Os),
            "object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The modes of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acks {
    /// Of tenants that are not named.
    pub default: Ack,
    /// Of those that are.
    pub tenants: HashMap<TenantId, Ack>,
}

impl Acks {
    pub(crate) fn of(&self, tenant: &TenantId) -> Ack {
        self.tenants.get(tenant).copied().unwrap_or(self.default)
    }
}
