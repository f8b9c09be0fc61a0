//! Line 1: reads see every acknowledged write. Line 2: one of many creators wins.

use futures_util::future::try_join_all;

use super::bench::{Bench, applied, get, listed, nothing_at, only, put, rejected, same, standing};
use super::case::{Case, Checked, Violation, cases, ensure};
use crate::kv::{Consistency, Store, Txn, Write};

pub(super) fn cases() -> Vec<Case<dyn Store>> {
    cases![
        1: a_write_is_seen_by_every_client,
        1: a_write_is_seen_in_every_list,
        1: a_put_answers_with_what_is_read,
        1: what_was_never_put_is_not_there,
        1: a_local_read_catches_up,
        2: one_of_many_creators_wins,
        2: a_create_is_rejected_where_something_stands,
        2: a_create_applies_again_after_a_delete,
    ]
}

async fn a_write_is_seen_by_every_client(bench: &Bench<dyn Store>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("a")?;
    for round in 0..20 {
        let (writer, reader) = if round % 2 == 0 { (&ours, &theirs) } else { (&theirs, &ours) };
        let value = round.to_string();
        let entry = put(writer, &key, &value).await?;
        same("another client's read", &get(reader, &key).await?, &Some(entry.clone()))?;
        same("the writer's own read", &get(writer, &key).await?, &Some(entry))?;
        if round % 5 == 4 {
            applied(reader, Txn::new().delete(&key)).await?;
            nothing_at(writer, &key).await?;
        }
    }
    Ok(())
}

async fn a_write_is_seen_in_every_list(bench: &Bench<dyn Store>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let prefix = bench.key("list")?;
    let mut expected = Vec::new();
    for round in 0..10 {
        let key = prefix.child(&format!("k{round}"))?;
        expected.push(put(&ours, &key, "first").await?);
        same("another client's list", &theirs.list(&prefix, Consistency::Linearizable).await?, &expected)?;
        expected.pop();
        expected.push(put(&theirs, &key, "second").await?);
        same(
            "the list after an overwrite",
            &ours.list(&prefix, Consistency::Linearizable).await?,
            &expected,
        )?;
    }
    for entry in expected.split_off(3) {
        applied(&ours, Txn::new().delete(&entry.key)).await?;
    }
    same("the list after deletes", &theirs.list(&prefix, Consistency::Linearizable).await?, &expected)
}

async fn a_put_answers_with_what_is_read(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let (first, second) = (bench.key("z")?, bench.key("a")?);
    if store.limits().max_txn_ops >= 2 {
        let made = applied(&store, Txn::new().put(&first, "1").put(&second, "2")).await?;
        let keys: Vec<_> = made.iter().map(|entry| entry.key.clone()).collect();
        same("the keys of a commit's answer, in the order of its puts", &keys, &vec![first.clone(), second])?;
        for entry in made {
            same("what is read", &standing(&store, &entry.key).await?, &entry)?;
        }
    }
    let made = put(&store, &first, "3").await?;
    same("the value in the answer", &made.value.as_ref(), &b"3".as_slice())?;
    same("the binding in the answer", &made.session, &None)?;
    same("what is read", &standing(&store, &first).await?, &made)
}

async fn what_was_never_put_is_not_there(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("missing/deep")?;
    nothing_at(&store, &key).await?;
    same("the list of a missing prefix", &listed(&store, &key).await?, &vec![])?;
    // Deleting what is not there is no error and makes nothing.
    applied(&store, Txn::new().delete(&key)).await?;
    same("what delete_prefix counts", &store.delete_prefix(&key).await?, &0)?;
    nothing_at(&store, &key).await?;
    applied(&store, Txn::new().absent(&key)).await?;
    nothing_at(&store, &key).await
}

async fn a_local_read_catches_up(bench: &Bench<dyn Store>) -> Checked {
    let (ours, theirs) = (bench.open().await?, bench.open().await?);
    let key = bench.key("local/a")?;
    let prefix = bench.key("local")?;
    let entry = put(&ours, &key, "1").await?;
    let within = super::bench::patience(&theirs.limits());
    bench
        .eventually("a local read sees the write", within, || async {
            let found = theirs.get(&key, Consistency::Local).await?;
            Ok(found.as_ref() == Some(&entry) && theirs.list(&prefix, Consistency::Local).await?.len() == 1)
        })
        .await
}

async fn one_of_many_creators_wins(bench: &Bench<dyn Store>) -> Checked {
    let clients = [bench.open().await?, bench.open().await?, bench.open().await?];
    for round in 0..5 {
        let key = bench.key(&format!("race-{round}"))?;
        let race = (0..12).map(|racer| {
            let (store, key) = (&clients[racer % clients.len()], &key);
            async move {
                let write = store.commit(Txn::new().absent(key).put(key, racer.to_string())).await?;
                if let Write::Rejected(rejection) = &write {
                    same("the key a lost race names", &rejection.key, key)?;
                }
                Ok::<_, Violation>(write.applied())
            }
        });
        let mut winners: Vec<_> = try_join_all(race).await?.into_iter().flatten().collect();
        let (winner, count) = (winners.pop(), winners.len() + 1);
        let Some(winner) = winner else { return Err(Violation::new("no creator of 12 won")) };
        ensure!(count == 1, "{count} creators of 12 won");
        same("what the winner made", &standing(&clients[0], &key).await?, &only(winner)?)?;
    }
    Ok(())
}

async fn a_create_is_rejected_where_something_stands(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    for value in ["", "taken"] {
        let key = bench.key("taken")?;
        let stood = put(&store, &key, value).await?;
        rejected(&store, Txn::new().absent(&key).put(&key, "mine"), &key).await?;
        rejected(&store, Txn::new().absent(&key).put(&key, value.to_owned()), &key).await?;
        same("what stood there", &standing(&store, &key).await?, &stood)?;
    }
    Ok(())
}

async fn a_create_applies_again_after_a_delete(bench: &Bench<dyn Store>) -> Checked {
    let store = bench.open().await?;
    let key = bench.key("again/a")?;
    for round in 0..4 {
        applied(&store, Txn::new().absent(&key).put(&key, round.to_string())).await?;
        rejected(&store, Txn::new().absent(&key).put(&key, "late"), &key).await?;
        if round % 2 == 0 {
            applied(&store, Txn::new().delete(&key)).await?;
        } else {
            store.delete_prefix(&bench.key("again")?).await?;
        }
    }
    nothing_at(&store, &key).await
}
