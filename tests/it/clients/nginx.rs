//! Behind a proxy that holds the certificate: nginx, with `external_url`.

use crate::support::image;
use crate::support::namespace::{ADDRESS, Namespace};

const SETTINGS: &str = "registry:\n  enabled: true\n  external_url: https://registry.test\n";

/// What the documents tell administrators to write.
const NGINX: &str = r"daemon off;
pid TOP/nginx.pid;
error_log TOP/nginx.log;
events {}
http {
  access_log off;
  client_body_temp_path TOP/body;
  proxy_temp_path TOP/proxy;
  fastcgi_temp_path TOP/fastcgi;
  uwsgi_temp_path TOP/uwsgi;
  scgi_temp_path TOP/scgi;
  server {
    listen 198.51.100.10:443 ssl;
    server_name _;
    ssl_certificate TOP/proxy.crt;
    ssl_certificate_key TOP/proxy.key;
    client_max_body_size 0;
    location / {
      proxy_pass http://127.0.0.1:5000;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
";

#[test]
fn behind_nginx_everything_is_at_the_external_url() {
    let Some(namespace) = Namespace::new(ADDRESS) else {
        return;
    };
    let top = namespace.path().display().to_string();
    namespace.sh("", "kdk init root").ok();
    std::fs::write(namespace.join("root/kdk.yml"), SETTINGS).expect("written");
    let up = namespace.sh("root", "kdk up");
    assert!(up.stderr.contains("push registry.test/my-image"), "{}", up.stderr);
    up.ok();
    namespace
        .sh(
            "",
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=registry.test -addext subjectAltName=DNS:registry.test -keyout proxy.key -out proxy.crt 2>/dev/null; mkdir -p etc/docker/certs.d/registry.test; cp proxy.crt etc/docker/certs.d/registry.test/ca.crt",
        )
        .ok();
    std::fs::write(namespace.join("nginx.conf"), NGINX.replace("TOP", &top)).expect("written");
    let mut nginx = namespace.command("nginx");
    nginx.args(["-c", &format!("{top}/nginx.conf"), "-e", &format!("{top}/nginx.log")]);
    let _child = nginx.spawn().expect("nginx runs");
    crate::support::wait("nginx answers", || {
        let answer = namespace.sh(
            "",
            "curl -s --cacert proxy.crt -o /dev/null -w '%{http_code}' https://registry.test/v2/",
        );
        (answer.stdout == "401").then_some(())
    });
    // Whatever a client says of itself, it is sent to the external URL.
    for header in [
        "Host: evil.test",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Proto: http",
    ] {
        let head = namespace
            .sh(
                "",
                &format!("curl -s --cacert proxy.crt -D - -o /dev/null -H '{header}' https://registry.test/v2/"),
            )
            .ok();
        assert!(
            head.contains("realm=\"https://registry.test/jwt/auth\""),
            "{header}: {head}"
        );
    }
    let token = namespace.sh("root", "kdk token create").ok();
    let token = token.trim();
    let jwt = format!(
        "curl -sf --cacert proxy.crt -u x:{token} 'https://registry.test/jwt/auth?service=container_registry&scope=registry:catalog:*' | jq -r .token"
    );
    let list =
        format!("curl -sf --cacert proxy.crt -H \"Authorization: Bearer $({jwt})\" https://registry.test/v2/_catalog");
    assert_eq!(namespace.sh("", &list).ok().trim(), r#"{"repositories":[]}"#);
    // Wrong logins count for the client, not for the proxy.
    for _ in 0..11 {
        let _ = namespace.sh(
            "",
            "curl -s --cacert proxy.crt -u x:khpat-wrong 'https://registry.test/jwt/auth?service=container_registry'",
        );
    }
    let code = "-o /dev/null -w '%{http_code}'";
    let far = format!(
        "curl -s --cacert proxy.crt {code} -u x:khpat-wrong 'https://registry.test/jwt/auth?service=container_registry'"
    );
    assert_eq!(namespace.sh("", &far).ok(), "429");
    let near = format!("curl -s {code} -u x:khpat-wrong 'http://127.0.0.1:5000/jwt/auth?service=container_registry'");
    assert_eq!(namespace.sh("", &near).ok(), "401");

    namespace.start_docker("{}");
    namespace.sh("root", "kdk login --client docker").ok();
    image::context(&namespace.join("project"), 2);
    namespace
        .sh(
            "project",
            "docker build -q -t registry.test/group/app . && docker push registry.test/group/app",
        )
        .ok();
    namespace
        .sh(
            "project",
            "docker rmi -f $(docker images -q) > /dev/null; docker pull registry.test/group/app",
        )
        .ok();
    namespace.sh("root", "kdk down").ok();
}
