fn main() {
    let mut args = std::env::args().skip(1);
    let schema = relaxng::Schema::read(std::path::Path::new(&args.next().unwrap())).unwrap();
    for file in args {
        let text = std::fs::read_to_string(&file).unwrap();
        let begin = std::time::Instant::now();
        match roxmltree::Document::parse(&text) {
            Err(error) => println!("{file}: XML {error}"),
            Ok(document) => match schema.validate(&document) {
                Ok(()) => println!("{file}: ok {:?}", begin.elapsed()),
                Err(error) => println!("{file}: BAD {}", error.to_string().replace('\n', " / ")),
            },
        }
    }
}
