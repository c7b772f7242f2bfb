//! Looking again for a short time before a thread sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// How long to look. To wake a thread takes about as long.
const LONGEST: Duration = Duration::from_micros(50);
/// What came within this time, with the waking of threads, may come sooner to one who is awake.
const SHORT: Duration = Duration::from_micros(200);

/// Whether it pays to look again for what a thread waits for: if it came soon the last time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Spin {
    pays: bool,
}

impl Spin {
    pub(crate) const fn pays(self) -> bool {
        self.pays
    }

    /// Looks for something, again and again for a short time if that pays. Others get the processor
    /// between.
    pub(crate) fn look<T>(self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if !self.pays {
            return None;
        }
        let begin = Instant::now();
        loop {
            let found = look();
            if found.is_some() || begin.elapsed() >= LONGEST {
                return found;
            }
            thread::yield_now();
        }
    }

    /// Notes how long it took to come.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.pays = time < SHORT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_once_waits_are_short() {
        let mut spin = Spin::default();
        assert_eq!(spin.look(|| Some(1)), None);
        spin.waited(Duration::from_micros(1));
        assert_eq!(spin.look(|| Some(1)), Some(1));
        spin.waited(Duration::from_secs(1));
        assert_eq!(spin.look(|| Some(1)), None);
    }

    #[test]
    fn looks_for_a_while_but_not_for_ever() {
        let mut spin = Spin::default();
        spin.waited(Duration::ZERO);
        let begin = Instant::now();
        let mut times = 0;
        let found = spin.look(|| {
            times += 1;
            None::<u8>
        });
        assert_eq!(found, None);
        assert!(times > 0 && begin.elapsed() >= LONGEST);
    }
}
