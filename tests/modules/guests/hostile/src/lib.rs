//! Does what its parameter `do` says, all of it wrong. Written against the bare contract, so that
//! it can return what the SDK never would.

#![cfg(target_arch = "wasm32")]

use std::{cell::RefCell, collections::HashMap, hint::black_box, io::Write};

use millstream_guest::{
    bindings::exports::millstream::module::transform::{BatchInfo, Guest, Refusal, Verdict},
    log,
};

thread_local! {
    static MODE: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Hostile;

impl Guest for Hostile {
    fn init(params: Vec<(String, String)>, _: Vec<String>) -> Result<(), String> {
        let mode = params.into_iter().find(|(name, _)| name == "do").map(|(_, value)| value);
        match mode.as_deref().unwrap_or_default() {
            "refuse-init" => return Err("these parameters will not do".to_owned()),
            "panic-in-init" => panic!("cannot start"),
            "loop-in-init" => spin(),
            mode => {
                if mode == "greet" {
                    println!("ready");
                }
                MODE.set(mode.to_owned());
            }
        }
        Ok(())
    }

    fn process(batch: BatchInfo, records: Vec<u8>) -> Result<Verdict, Refusal> {
        MODE.with_borrow(|mode| act(mode, &batch, records))
    }
}

millstream_guest::bindings::export!(Hostile with_types_in millstream_guest::bindings);

fn act(mode: &str, batch: &BatchInfo, records: Vec<u8>) -> Result<Verdict, Refusal> {
    let output = match mode {
        "loop" => spin(),
        "loop-at-0" if batch.base_offset == 0 => spin(),
        "memory" => bomb(),
        "memory-gently" => gentle_bomb(),
        "output" => vec![0; records.len() * 16 + (1 << 20) + 1],
        "stack" => return keep_if(deep(0) == 0),
        "shadow-stack" => return keep_if(deep_arrays(0) == 0),
        "panic" => panic!("this is the end"),
        "panic-at-0" if batch.base_offset == 0 => panic!("this is the end"),
        "null" => return keep_if(HashMap::<u8, u8>::new()[&0] == 0),
        "exit" => exit(),
        "endless-length" => vec![0xff, 0xff, 0xff, 0xff, 0x7f],
        "no-such-output" => vec![6, 9, 0, 0, 1, 1, 0],
        "no-such-source" => vec![6, 0, 0xff, 0x7f, 0, 1, 1, 0],
        "noise" => (0..=255).collect(),
        "short-bitmap" => return Ok(Verdict::Bitmap(vec![])),
        "stray-bits" => {
            return Ok(Verdict::Bitmap(vec![0xff; batch.count.div_ceil(8) as usize]));
        }
        "refuse-1" => {
            return Err(Refusal { index: 1, message: "I do not like it".to_owned() });
        }
        "refuse-beyond" => {
            return Err(Refusal { index: batch.count, message: String::new() });
        }
        "flood" => return flood(),
        "print" => return print(),
        "many-handles" => return many_handles(),
        "much-randomness" => return keep_if(random_map_order().len() == 1),
        "order" => return Ok(Verdict::Rewritten(one_record(&random_map_order()))),
        "clock" => return Ok(Verdict::Rewritten(one_record(&clocks()))),
        "environment" => return Ok(Verdict::Rewritten(one_record(&environment()))),
        "twice" => {
            return Ok(Verdict::Rewritten([one_record("first"), one_record("second")].concat()));
        }
        // As `one_record` does it, with a key of one byte.
        "other-key" => vec![8, 0, 0, 0, 2, b'k', 2, b'v', 0],
        "hold-memory" => {
            black_box(vec![1_u8; 32 << 20]).leak();
            return Ok(Verdict::All);
        }
        _ => return Ok(Verdict::All),
    };
    Ok(Verdict::Rewritten(output))
}

fn keep_if(condition: bool) -> Result<Verdict, Refusal> {
    Ok(if condition { Verdict::All } else { Verdict::None })
}

#[allow(clippy::disallowed_methods, reason = "that is the point")]
fn exit() -> ! {
    std::process::exit(3)
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn bomb() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Asks, is refused, and gives up by a trap of its own.
fn gentle_bomb() -> ! {
    let mut held: Vec<u8> = Vec::new();
    while held.try_reserve_exact(held.capacity() + (8 << 20)).is_ok() {
        black_box(&mut held);
    }
    panic!("no memory left");
}

#[allow(unconditional_recursion, reason = "that is the point")]
fn deep(depth: u64) -> u64 {
    black_box(deep(black_box(depth) + 1)) + 1
}

#[allow(unconditional_recursion, reason = "that is the point")]
fn deep_arrays(depth: u64) -> u64 {
    let mut array = [depth; 128];
    black_box(&mut array);
    black_box(deep_arrays(array[7] + 1)) + array[9]
}

fn flood() -> Result<Verdict, Refusal> {
    for number in 0..100_000 {
        log::info(&format!("line {number}"));
    }
    log::count("floods", 1);
    Ok(Verdict::All)
}

fn print() -> Result<Verdict, Refusal> {
    println!("to standard output");
    eprintln!("to standard error");
    print!("without an end");
    let _ = std::io::stdout().flush();
    log::warn("to the log");
    Ok(Verdict::All)
}

fn many_handles() -> Result<Verdict, Refusal> {
    keep_if((0..10_000).all(|_| std::io::stdout().flush().is_ok()))
}

/// The order of a hash map's keys, which the seed decides.
fn random_map_order() -> String {
    let map: HashMap<u32, ()> = (0..20).map(|key| (key, ())).collect();
    map.keys().map(|key| format!("{key} ")).collect()
}

fn clocks() -> String {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let before = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_secs(3_600));
    format!("{} {:?}", wall.map_or(0, |since| since.as_millis()), before.elapsed())
}

fn environment() -> String {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    format!("{} {} {read:?}", std::env::args().count(), std::env::vars().count())
}

/// One record, for the first output, from the first record, with this value of less than 60 bytes.
fn one_record(value: &str) -> Vec<u8> {
    let value = &value.as_bytes()[..value.len().min(59)];
    let length = value.len() as u8;
    [&[6 + length, 0, 0, 0, 1, 2 * length], value, &[0]].concat()
}
