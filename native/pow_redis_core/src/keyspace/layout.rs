//! Which keys the store keeps in Redis.

/// How keys lie in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// With index sets, as the current edition of Pow's guide has it.
    Indexed,
    /// Keys and values alone, as the first edition of Pow's guide has it.
    Plain,
}
