//! The layout of the store in Redis.

/// The layout of the store in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Values and index sets, as in the current edition of Pow's guide.
    Indexed,
    /// Values only, as in the first edition of Pow's guide.
    Plain,
}
