//! Properties of reading and writing terms.

use pow_redis_core::etf::{self, AtomEncoding, Cursor, Elements, ListWriter};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;
use crate::encoding::{canonical, canonical_external, choices, external};
use crate::term::{Term, term};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn all_encodings_of_a_term_have_one_canonical_form(term in term(), mut choices in choices()) {
        let written = external(&term, &mut choices);
        prop_assert_eq!(etf::check(&written), Ok(()));
        let read = etf::canonicalize(&written, AtomEncoding::Utf8);
        prop_assert_eq!(read, Ok(canonical_external(&term)));
    }

    #[test]
    fn terms_are_equal_if_and_only_if_their_canonical_forms_are(one in term(), other in term()) {
        prop_assert_eq!(one == other, canonical(&one) == canonical(&other));
    }

    #[test]
    fn latin1_atoms_encode_the_same_term(term in term(), mut choices in choices()) {
        let written = external(&term, &mut choices);
        let latin1 = etf::canonicalize(&written, AtomEncoding::Latin1).unwrap();
        prop_assert_eq!(etf::canonicalize(&latin1, AtomEncoding::Latin1), Ok(latin1.clone()));
        let read = etf::canonicalize(&latin1, AtomEncoding::Utf8);
        prop_assert_eq!(read, Ok(canonical_external(&term)));
    }

    #[test]
    fn skips_exactly_one_term(
        term in term(),
        mut choices in choices(),
        trailing in vec(any::<u8>(), 0..9),
    ) {
        let written = external(&term, &mut choices);
        let bytes = [&written[..], &trailing].concat();
        let mut cursor = etf::term_after_version(&bytes).unwrap();
        prop_assert_eq!(etf::skip(&mut cursor), Ok(()));
        prop_assert_eq!((cursor.offset(), cursor.rest()), (written.len(), &trailing[..]));
        prop_assert_eq!(etf::check(&bytes).is_ok(), trailing.is_empty());
    }

    #[test]
    fn rejects_truncated_terms(
        term in term(),
        mut choices in choices(),
        cut in any::<prop::sample::Index>(),
    ) {
        let written = external(&term, &mut choices);
        let front = &written[..cut.index(written.len())];
        let error = etf::check(front).unwrap_err();
        prop_assert!(error.offset() <= front.len());
        prop_assert!(etf::canonicalize(front, AtomEncoding::Utf8).is_err());
    }

    #[test]
    fn lists_are_read_and_written_element_by_element(terms in vec(term(), 0..6), tail in term()) {
        let improper = !terms.is_empty() && !matches!(tail, Term::List(..));
        let tail = improper.then(|| Box::new(tail));
        let whole = canonical(&Term::List(terms.clone(), tail.clone()));
        let mut elements = Elements::read(&mut Cursor::new(&whole)).unwrap().unwrap();
        let mut written = Vec::new();
        let mut list = ListWriter::begin(&mut written);
        for (position, term) in terms.iter().enumerate() {
            let rest = Term::List(terms[position..].to_vec(), tail.clone());
            prop_assert_eq!(elements.clone().rest(), Ok(canonical(&rest)));
            let element = elements.next_element().unwrap().unwrap().to_term();
            prop_assert_eq!(&element, &canonical(term));
            list.count_element();
            written.extend(element);
        }
        prop_assert_eq!(elements.next_element(), Ok(None));
        let rest = elements.rest().unwrap();
        match tail {
            None => {
                prop_assert_eq!(rest, [106]);
                list.end(&mut written);
            }
            Some(tail) => {
                prop_assert_eq!(&rest, &canonical(&tail));
                list.begin_tail(&mut written);
                written.extend(rest);
            }
        }
        prop_assert_eq!(written, whole);
    }
}
