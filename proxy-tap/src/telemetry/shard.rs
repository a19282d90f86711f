//! What one thread's requests leave until the next export, behind one lock that no other thread wants.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use weir_model::limits;

use super::edges::Edges;
use super::istio::{self, Requests};
use super::series::Place;
use super::span;
use super::spare::Spare;
use crate::call::{Direction, Facts, Party, Security, Speaks};
use crate::chance::mix;

/// Sets up to which what is fixed of each is kept, some 300 bytes.
const FIXED: usize = 1_024;

/// Encoded spans or log records.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

impl Records {
    /// Takes what there is.
    pub(super) fn take(&mut self, spare: &Spare) -> Self {
        let next = if self.count > 0 { spare.take() } else { Vec::new() };
        Self { bytes: std::mem::replace(&mut self.bytes, next), count: std::mem::take(&mut self.count) }
    }
}

/// One of [`limits::PROXY_TELEMETRY_SHARDS`]. Its neighbours are not in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    known: HashMap<Handle, Known, Hashing>,
    /// What was counted since the last export, by the place of the set.
    pub(super) requests: Vec<Option<Box<Requests>>>,
    pub(super) edges: Edges,
    pub(super) spans: Records,
    pub(super) logs: Records,
    /// Attributes of the request in hand.
    pub(super) attributes: Vec<u8>,
}

/// What tells sets apart, found without looking at a text: the other end is known by its address, which is
/// its own for as long as a [`Known`] holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    peer: usize,
    flags: usize,
    rest: u64,
}

#[derive(Debug)]
struct Known {
    place: Place,
    fixed: Option<Fixed>,
    _peer: Arc<Party>,
}

/// Attributes that need not be encoded for each request.
#[derive(Debug)]
struct Fixed {
    /// Where the requests went; of one set it is hardly ever another.
    address: Option<Arc<str>>,
    bytes: Box<[u8]>,
}

impl Fixed {
    fn of(facts: &Facts) -> Self {
        let mut bytes = Vec::with_capacity(512);
        span::fixed(&mut bytes, facts);
        Self { address: facts.address.clone(), bytes: bytes.into() }
    }

    fn is_of(&self, facts: &Facts) -> bool {
        match (&self.address, &facts.address) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        }
    }
}

impl Handle {
    #[inline]
    pub(super) fn of(facts: &Facts) -> Self {
        let grpc = istio::grpc_label(facts).map_or(0xff, u64::from);
        let how = packed(facts.direction, facts.protocol.into(), facts.security);
        Self {
            peer: Arc::as_ptr(istio::peer(facts)).addr(),
            flags: facts.flags.as_ptr().addr(),
            rest: how | u64::from(facts.status) << 8 | grpc << 24 | (facts.flags.len() as u64) << 32,
        }
    }
}

/// These three in the low byte.
#[inline]
pub(super) fn packed(direction: Direction, speaks: Speaks, security: Security) -> u64 {
    let direction = u64::from(direction == Direction::Inbound);
    let speaks = match speaks {
        Speaks::Http => 0,
        Speaks::Grpc => 1,
        Speaks::Tcp => 2,
    };
    direction | speaks << 1 | u64::from(security == Security::MutualTls) << 3
}

impl Shard {
    /// Where the set of these facts is; `find` knows it where this shard does not yet.
    #[inline]
    pub(super) fn place(&mut self, facts: &Facts, find: impl FnOnce() -> Place) -> Place {
        let handle = Handle::of(facts);
        if let Some(known) = self.known.get(&handle) {
            return known.place;
        }
        let place = find();
        if self.known.len() >= limits::PROXY_METRIC_HANDLES {
            self.known.clear();
        }
        self.known.insert(handle, Known { place, fixed: None, _peer: Arc::clone(istio::peer(facts)) });
        place
    }

    /// Encodes the attributes of a request whose set is known.
    pub(super) fn encode(&mut self, facts: &Facts) {
        self.attributes.clear();
        let keeps = self.known.len() <= FIXED;
        let known = self.known.get_mut(&Handle::of(facts)).filter(|_| keeps);
        let fixed = match known {
            Some(known) => {
                if !known.fixed.as_ref().is_some_and(|fixed| fixed.is_of(facts)) {
                    known.fixed = None;
                }
                known.fixed.get_or_insert_with(|| Fixed::of(facts))
            }
            None => &Fixed::of(facts),
        };
        span::attributes(&mut self.attributes, facts, &fixed.bytes);
    }

    /// The set at a place.
    #[inline]
    pub(super) fn requests(&mut self, index: usize) -> &mut Requests {
        if self.requests.len() <= index {
            self.requests.resize_with(index + 1, || None);
        }
        self.requests[index].get_or_insert_default()
    }
}

/// Hashes addresses and numbers that nobody outside chooses.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mixer(u64);

pub(super) type Hashing = BuildHasherDefault<Mixer>;

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}
