//! Access logs in nginx's combined format, with the time taken and a 128-bit request id behind it.

use super::{Line, Voice};

const PATHS: [&str; 8] = [
    "/api/v1/products/",
    "/api/v1/cart/",
    "/static/js/chunk-",
    "/p/",
    "/api/v1/orders/",
    "/images/catalog/large/",
    "/api/v1/users/",
    "/search?page=",
];
const AGENTS: [&str; 8] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile Safari/537.36",
    "kube-probe/1.33",
    "okhttp/5.1.0",
    "Go-http-client/2.0",
    "curl/8.14.1",
];

pub(super) fn write(line: &mut Line<'_>, voice: &Voice) {
    let status = status(line, voice);
    line.client().text(" - - [").time_common().text("] \"");
    line.pick(&["GET", "GET", "GET", "POST", "PUT", "DELETE"]).text(" ").pick(&PATHS);
    let id = line.random.skewed(90_000);
    line.number(id).text(" HTTP/1.1\" ").number(status).text(" ");
    let (size, millis) = (line.random.long_tailed(5200), line.random.long_tailed(34));
    line.number(size).text(" \"").pick(&[
        "-",
        "https://shop.example.com/",
        "https://shop.example.com/sale",
    ]);
    line.text("\" \"").pick(&AGENTS).text("\" rt=").seconds(millis).text(" id=").hex128();
}

fn status(line: &mut Line<'_>, voice: &Voice) -> u32 {
    if line.random.chance(voice.errors_per_mille) {
        return [500, 502, 503][line.random.below(3) as usize];
    }
    [200, 200, 200, 200, 304, 201, 404, 302, 401][line.random.skewed(9) as usize]
}
