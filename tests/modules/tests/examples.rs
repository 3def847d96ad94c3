//! Every guest example, as a component, in the real host.

use millstream_guest::testing::value;
use millstream_modules::{GuestError, Limits, Verdict};
use millstream_tests_modules::rig::{batch, numbers, rewritten, start};

const FLIGHTS: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";
const LATE: &str =
    "2013,1,1,811,630,101,1047,830,137,MQ,4576,N531MQ,LGA,CLT,118,544,6,30,2013-01-01T11:00:00Z";
const ON_TIME: &str =
    "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z";
const CANCELLED: &str =
    "2013,1,1,NA,1630,NA,NA,1815,NA,EV,4308,N18120,EWR,RDU,NA,416,16,30,2013-01-01T21:00:00Z";

#[tokio::test]
async fn keep_late_answers_with_a_bitmap() {
    let keep = start("keep-late", &[], &["late"], Limits::default()).await.unwrap();
    let rows = [FLIGHTS, LATE, ON_TIME, CANCELLED, LATE].map(value);
    let verdict = keep.process(batch(0, &rows)).await.unwrap();
    let Verdict::Keep(bitmap) = verdict else { panic!("{verdict:?}") };
    assert_eq!(bitmap.iter().collect::<Vec<_>>(), [1, 4]);
}

#[tokio::test]
async fn a_batch_that_is_kept_or_dropped_whole_needs_no_bitmap() {
    let keep = start("keep-late", &[], &["late"], Limits::default()).await.unwrap();
    assert_eq!(keep.process(batch(0, &[value(LATE)])).await, Ok(Verdict::All));
    assert_eq!(keep.process(batch(0, &[value(ON_TIME)])).await, Ok(Verdict::None));
    assert_eq!(keep.process(batch(0, &[])).await, Ok(Verdict::All));
}

#[tokio::test]
async fn csv_to_json_makes_late_flights_into_json_keyed_by_carrier() {
    let params = [
        ("columns", FLIGHTS),
        ("fields", "carrier,flight,origin,dest,arr_delay,date"),
        ("key", "carrier"),
        ("where", "arr_delay > 60"),
    ];
    let late = start("csv-to-json", &params, &["late"], Limits::default()).await.unwrap();
    let rows = [FLIGHTS, LATE, ON_TIME, CANCELLED].map(value);
    let verdict = late.process(batch(0, &rows)).await.unwrap();
    let json = "{\"carrier\":\"MQ\",\"flight\":4576,\"origin\":\"LGA\",\"dest\":\"CLT\",\
                \"arr_delay\":137,\"date\":\"2013-01-01\"}";
    assert_eq!(rewritten(&verdict), [(0, 1, "MQ".to_owned(), json.to_owned())]);
}

#[tokio::test]
async fn csv_to_json_refuses_a_broken_row_by_its_place_and_goes_on() {
    let params = [("columns", "a,b")];
    let all = start("csv-to-json", &params, &["out"], Limits::default()).await.unwrap();
    let error = all.process(batch(0, &["1,2", "1"].map(value))).await.unwrap_err();
    let message = "the row has 1 columns instead of 2".to_owned();
    assert_eq!(error, GuestError::Refused { index: 1, message });
    let verdict = all.process(batch(0, &[value("1,2")])).await.unwrap();
    assert_eq!(rewritten(&verdict)[0].3, r#"{"a":1,"b":2}"#);
    assert_eq!(all.scope().counters().snapshot().instantiations, 1, "the instance was kept");
}

#[tokio::test]
async fn redact_json_replaces_fields() {
    let params = [("fields", "email")];
    let redact = start("redact-json", &params, &["out"], Limits::default()).await.unwrap();
    let record = value(r#"{"id":1,"email":"a@b"}"#).key("k").header("h", "v");
    let verdict = redact.process(batch(0, &[record])).await.unwrap();
    let want = (0, 0, "k".to_owned(), r#"{"id":1,"email":"***"}"#.to_owned());
    assert_eq!(rewritten(&verdict), [want]);
}

#[tokio::test]
async fn fan_out_reaches_both_outputs() {
    let fan = start("fan-out", &[], &["all", "errors"], Limits::default()).await.unwrap();
    let lines = ["INFO a", "ERROR b"].map(value);
    let verdict = fan.process(batch(0, &lines)).await.unwrap();
    let found: Vec<_> = rewritten(&verdict).iter().map(|out| (out.0, out.1)).collect();
    assert_eq!(found, [(0, 0), (0, 1), (1, 1)]);
}

#[tokio::test]
async fn wrong_parameters_refuse_the_start_with_the_guests_words() {
    let error = start("fan-out", &[], &["all"], Limits::default()).await.unwrap_err();
    let message = "the job has 1 outputs, this module needs at least 2".to_owned();
    assert_eq!(error, GuestError::InitFailed { message });
}

#[tokio::test]
async fn counters_say_what_went_through() {
    let keep = start("keep-half", &[], &["out"], Limits::default()).await.unwrap();
    for offset in [0, 1_000] {
        keep.process(numbers(offset, 1_000)).await.unwrap();
    }
    let counters = keep.scope().counters().snapshot();
    assert_eq!((counters.calls, counters.records_in, counters.records_out), (2, 2_000, 1_000));
    assert!(counters.bytes_in > 2_000 && !counters.guest_time.is_zero());
    assert!(counters.errors.is_empty(), "{:?}", counters.errors);
}
