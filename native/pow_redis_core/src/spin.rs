//! Looking again for a short time before a thread sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// How long to look. To wake a thread takes about as long.
const LONGEST: Duration = Duration::from_micros(50);
/// What came within this time, with the waking of threads, may come sooner to one who is awake.
const SHORT: Duration = Duration::from_micros(200);
/// Who gets the processor back only after this time shares it with others who keep it.
const CROWDED: Duration = Duration::from_millis(1);
/// Giving way among them costs their turns: for so long nobody does.
const PAUSE: Duration = Duration::from_millis(250);

/// Giving others the processor, as long as they give it back soon.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Courtesy {
    crowded_until: Option<Instant>,
}

impl Courtesy {
    pub(crate) fn pays(self) -> bool {
        self.crowded_until
            .is_none_or(|until| Instant::now() >= until)
    }

    /// Gives others the processor.
    pub(crate) fn give_way(&mut self) {
        let begin = Instant::now();
        thread::yield_now();
        self.was_away(begin.elapsed());
    }

    fn was_away(&mut self, time: Duration) {
        self.crowded_until = (time >= CROWDED).then(|| Instant::now() + PAUSE);
    }
}

/// Whether it pays to look again for what a thread waits for: if it came soon the last time, and
/// nobody else wants the processor for long.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Spin {
    came_soon: bool,
    courtesy: Courtesy,
}

impl Spin {
    pub(crate) fn pays(self) -> bool {
        self.came_soon && self.courtesy.pays()
    }

    /// Looks for something, again and again for a short time if that pays. Others get the processor
    /// between.
    pub(crate) fn look<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if !self.pays() {
            return None;
        }
        let begin = Instant::now();
        loop {
            let found = look();
            if found.is_some() || begin.elapsed() >= LONGEST {
                return found;
            }
            self.courtesy.give_way();
        }
    }

    /// Notes how long it took to come.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.came_soon = time < SHORT;
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

    #[test]
    fn gives_way_to_nobody_for_a_while_who_keeps_the_processor() {
        let mut spin = Spin::default();
        spin.waited(Duration::ZERO);
        let before = Instant::now();
        spin.courtesy.was_away(CROWDED);
        assert!(spin.courtesy.crowded_until >= Some(before + PAUSE));
        spin.courtesy.crowded_until = Some(before + Duration::from_secs(60));
        assert!(!spin.pays() && spin.look(|| Some(1)).is_none());
        spin.courtesy.crowded_until = Some(Instant::now());
        assert!(spin.pays());
        spin.courtesy.was_away(Duration::ZERO);
        assert_eq!(spin.look(|| Some(1)), Some(1));
    }
}
