//! Whether a connection comes about.

use super::Failure;

pub(super) async fn check(address: &str) -> Result<(), Failure> {
    super::connect(address).await.map(drop)
}
