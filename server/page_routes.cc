// The dashboard: one page, embedded, that asks the API like any other caller.
#include "embedded_dashboard_html.h"
#include "server/service.h"

namespace taskwal::server {

void AddPageRoutes(Router& router) {
  // Open, so that a browser can show it: it holds no data, and asks its user for the token.
  router.AddOpen("GET", "/", [](const HttpRequest&) {
    HttpResponse page;
    page.body = std::string(kDashboardHtml);
    page.content_type = "text/html; charset=utf-8";
    page.headers.emplace_back(
        "Content-Security-Policy",
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'");
    return page;
  });
}

}  // namespace taskwal::server
