//! Records are returned as they were put, in each layout and over each kind of connection.

use std::sync::Arc;

use pow_redis_core::cache::{Cache, Event};
use pow_redis_core::error::ErrorKind;
use pow_redis_core::keyspace::index::Index;
use pow_redis_core::keyspace::layout::Layout;
use pow_redis_core::keyspace::redis_key::{RedisKey, index_set};
use pow_redis_core::keyspace::ttl::Ttl;
use pow_redis_core::operation::{
    Delete, Get, Operation, Outcome, Put, PutNew, Reindex, ReindexMode, ScanPosition,
};
use pow_redis_core::seal::{KeyId, Keyring, PlainValues, SealKey, WriteForm};
use redis::cmd;

use crate::calls::*;
use crate::redis_server::{DEADLINE, RedisServer};

const A: &[u8] = &[119, 1, b'a'];
const ONE: &[u8] = &[97, 1];
const TWO: &[u8] = &[97, 2];

/// Puts, reads, lists and deletes one key among others.
fn round_trip(cache: &Cache, layout: &Arc<Layout>) {
    let put = |terms: &[&[u8]], value| {
        let records = vec![(key(terms), number(value))];
        let put = Put::new(records, HOUR, layout).unwrap();
        assert!(matches!(
            call(cache, Operation::Put(put)),
            Ok(Outcome::Done)
        ));
    };
    let get = |terms: &[&[u8]]| call(cache, Operation::Get(Get::new(key(terms), layout)));
    let list = |terms: &[&[u8]]| {
        let records = records(call(cache, all(terms, layout)));
        records
            .into_iter()
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    assert!(matches!(get(&[A, ONE]), Ok(Outcome::NotFound)));
    put(&[A, ONE], 1);
    put(&[A, TWO], 2);
    put(&[A], 3);
    put(&[A, ONE, TWO], 4);
    assert!(matches!(get(&[A, ONE]), Ok(Outcome::Value(value)) if value == number(1)));
    assert_eq!(list(&[A, ANY]), [number(1), number(2)]);
    assert_eq!(list(&[ANY, ONE]), [number(1)]);
    assert_eq!(list(&[ANY]), [number(3)]);
    assert_eq!(list(&[A, ONE, TWO]), [number(4)]);

    let delete = Delete::new(&key(&[A, ONE]), layout);
    assert!(matches!(
        call(cache, Operation::Delete(delete)),
        Ok(Outcome::Done)
    ));
    assert!(matches!(get(&[A, ONE]), Ok(Outcome::NotFound)));
    assert_eq!(list(&[A, ANY]), [number(2)]);

    for (value, is_new) in [(5, true), (6, false), (5, true)] {
        let put_new = PutNew::new(&key(&[A, ONE]), number(value), HOUR, layout).unwrap();
        let outcome = call(cache, Operation::PutNew(put_new));
        assert!(matches!(outcome, Ok(Outcome::Written(is_written)) if is_written == is_new));
    }
    assert_eq!(list(&[A, ANY]), [number(5), number(2)]);
}

#[test]
fn round_trip_over_tcp_in_the_indexed_layout() {
    let server = RedisServer::start();
    round_trip(&start_at(&server.url()), &every_prefix());
}

#[test]
fn round_trip_of_sealed_values() {
    let server = RedisServer::start();
    let key = SealKey::new(KeyId::new(b"a").unwrap(), &[7; 32]).unwrap();
    let keyring = Keyring::new(vec![key], WriteForm::Sealed, PlainValues::Refuse).unwrap();
    let layout = Arc::new(Layout::standalone(Index::EveryPrefix).with_keyring(keyring));
    round_trip(&start_at(&server.url()), &layout);
}

#[test]
fn round_trip_over_tcp_in_the_plain_layout() {
    let server = RedisServer::start();
    round_trip(&start_at(&server.url()), &no_index());
    let index: Vec<String> = server.command("KEYS _index:*");
    assert!(index.is_empty(), "{index:?}");
}

#[test]
fn round_trip_over_a_unix_socket_with_four_workers() {
    let server = RedisServer::start();
    let mut options = options(&server.socket_url());
    options.pool_size = 4;
    round_trip(&start(options).0, &every_prefix());
}

#[test]
fn round_trip_in_another_database_with_a_password() {
    let server = RedisServer::start();
    server.command::<()>("CONFIG SET requirepass s3cret");
    let with_login = |login: &str| {
        let url = server
            .url()
            .replace("redis://", &format!("redis://{login}"));
        start_at(&format!("{url}/3"))
    };
    for (login, code) in [("", "NOAUTH"), (":wr0ng@", "WRONGPASS")] {
        let error = error_of(call(&with_login(login), get(1)));
        assert!(
            matches!(error, ErrorKind::Server(returned) if returned.as_str() == code),
            "{login}"
        );
    }
    round_trip(&with_login(":s3cret@"), &every_prefix());
}

#[test]
fn persistent_records_never_expire() {
    let server = RedisServer::start();
    let cache = start_at(&server.url());
    let records = vec![(numbered_key(1), number(1))];
    let persistent = Put::new(records, Ttl::Persistent, &every_prefix()).unwrap();
    // Another record must not shorten the TTL of the index set.
    let records = vec![(numbered_key(2), number(2))];
    let short = Put::new(records, Ttl::Millis(1_000), &every_prefix()).unwrap();
    for put in [persistent, short] {
        let outcome = call(&cache, Operation::Put(put));
        assert!(matches!(outcome, Ok(Outcome::Done)));
    }
    let ttl = |key: &[u8]| server.run::<i64>(cmd("PTTL").arg(key));
    assert_eq!(ttl(numbered_key(1).redis_key().as_bytes()), -1);
    for (prefix, _) in numbered_key(1).redis_key().splits() {
        let years = ttl(&index_set(prefix)) / (365 * 24 * 3_600_000);
        assert!(years > 100_000, "{years}");
    }
}

#[test]
fn reports_invalid_values() {
    let server = RedisServer::start();
    let (cache, events) = start(options(&server.url()));
    let redis_key = numbered_key(1).redis_key();
    server.run::<()>(cmd("SET").arg(redis_key.as_bytes()).arg("text"));
    let outcome = call(&cache, get(1));
    assert!(matches!(outcome, Ok(Outcome::Invalid(_))), "{outcome:?}");
    assert!(matches!(
        events.recv_timeout(DEADLINE),
        Ok(Event::Connected { .. })
    ));
    assert_eq!(events.recv_timeout(DEADLINE), Ok(Event::Invalid(1)));
}

/// The legacy Redis key of `[namespace, a, id]`.
fn legacy_redis_key(id: u32) -> RedisKey {
    let namespace = [&[131], NAMESPACE].concat();
    RedisKey::from_parts([&namespace[..], &[131, 100, 0, 1, b'a'], &number(id)])
}

#[test]
fn reindexes_legacy_keys() {
    let server = RedisServer::start();
    let cache = start_at(&server.url());
    for id in 1_000..2_000 {
        let redis_key = legacy_redis_key(id);
        server.run::<()>(
            cmd("SET")
                .arg(redis_key.as_bytes())
                .arg(number(id))
                .arg("PX")
                .arg(600_000),
        );
    }
    let indexed_records = || records(call(&cache, all(&[A, ANY], &every_prefix()))).len();
    let get_legacy = Operation::Get(Get::new(key(&[A, &number(1_500)[1..]]), &every_prefix()));
    assert!(
        matches!(call(&cache, get_legacy), Ok(Outcome::Value(value)) if value == number(1_500))
    );
    assert_eq!(indexed_records(), 0);

    let reindex = || {
        let (mut position, mut sums) = (ScanPosition::default(), [0; 3]);
        loop {
            let reindex = Reindex::new(position, &every_prefix(), ReindexMode::Write);
            match call(&cache, Operation::Reindex(reindex)) {
                Ok(Outcome::Page(page)) => {
                    sums = [
                        sums[0] + page.keys,
                        sums[1] + page.indexed,
                        sums[2] + page.renamed,
                    ];
                    match page.next {
                        Some(next) => position = next,
                        None => return sums,
                    }
                }
                outcome => panic!("{outcome:?}"),
            }
        }
    };
    let [keys, indexed, renamed] = reindex();
    // A scan may return a renamed key again under its new name.
    assert!(keys >= 1_000);
    assert_eq!([indexed, renamed], [1_000, 1_000]);
    assert_eq!(indexed_records(), 1_000);
    assert!(!server.run::<bool>(cmd("EXISTS").arg(legacy_redis_key(1_500).as_bytes())));
    assert_eq!(reindex(), [1_000, 0, 0]);
}
