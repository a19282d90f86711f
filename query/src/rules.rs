//! Recording and alerting rules, as Prometheus has them.
//!
//! In: the text of rule files, a [`Store`] of samples, a clock. Out: samples of recording rules, `ALERTS` and
//! `ALERTS_FOR_STATE` written to the store, and [`Notification`]s. [`file`](mod@file) reads rules and tells every
//! mistake; [`template`] expands what they tell people; [`alert`] is the life of an alert, [`group`] evaluates the
//! rules of a group in order, [`Rules`] does so when it is time. [`unit`] runs tests of rules on samples in memory,
//! through the same groups.
//!
//! Nothing here reads a file, the environment or the wall clock.

pub mod file;
pub mod template;

pub mod alert;
pub mod group;
pub mod notify;

pub mod unit;

mod evaluate;
mod restore;
mod rows;
mod schedule;
mod store;
mod yaml;

pub use evaluate::{Environment, Health, RuleState, Timing};
pub use notify::{Nobody, Notification, Notifier, Notify};
pub use schedule::Rules;
pub use store::{Memory, Point, Store, Stored};
pub use yaml::Mistake;
