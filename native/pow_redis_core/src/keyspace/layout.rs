//! The layout of the store in Redis.

use std::sync::Arc;

use super::index::Index;
use super::key::Key;
use super::redis_key::RedisKey;
use crate::seal::Keyring;

/// The layout of the store in Redis.
#[derive(Debug)]
pub struct Layout {
    /// Which index sets there are.
    pub index: Index,
    /// Whether the keys are in the slots of a cluster, instead of on one server.
    pub is_cluster: bool,
    /// How values are sealed.
    pub keyring: Arc<Keyring>,
}

impl Layout {
    /// The layout on one server.
    pub fn standalone(index: Index) -> Self {
        Self {
            index,
            is_cluster: false,
            keyring: Arc::default(),
        }
    }

    /// The layout on a cluster.
    pub fn cluster(index: Index) -> Self {
        Self {
            index,
            is_cluster: true,
            keyring: Arc::default(),
        }
    }

    /// The same layout, with values sealed like this.
    #[must_use]
    pub fn with_keyring(self, keyring: Keyring) -> Self {
        Self {
            keyring: Arc::new(keyring),
            ..self
        }
    }

    /// Whether a Redis key is an index set of the store, but not of the index.
    pub(crate) fn is_unused_set(&self, name: &[u8]) -> bool {
        RedisKey::from_index_set(name)
            .and_then(|prefix| Key::from_redis_key(prefix.as_bytes()))
            .is_some_and(|prefix| !self.index.keeps(&prefix))
    }
}
