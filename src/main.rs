fn main() {
    let path = std::env::args().nth(1).unwrap();
    if let Err(e) = kdk::registry::command::serve(camino::Utf8Path::new(&path)) { eprintln!("{e}"); }
}
