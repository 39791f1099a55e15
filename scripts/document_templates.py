"""Layouts of documents for `make_screens.py`: letters, invoices, certificates, forms, contracts, cards, receipts.

They are hosts of forged documents too, so no part of them is a copy of another: their rows are all different.
"""

from __future__ import annotations

from collections.abc import Callable

from screen_templates import Gen, layout

PAPER = (
    "body{padding:7% 9%}h1{font-size:1.7em;line-height:1.2}table{width:100%;border-collapse:collapse}"
    "p{margin-bottom:.8em}"
)


def totals(g: Gen, prices: list[float]) -> list[str]:
    """The sum, the tax on it and both together, as a layout prints them."""
    net, rate = sum(prices), g.rng.choice((7, 19, 20, 21))
    return [f"{value:,.2f}" for value in (net, net * rate / 100, net * (1 + rate / 100))]


# ---- For training ----------------------------------------------------------------------------------------------------


@layout("train", "document", "page")
def letter(g: Gen) -> str:
    parts = g.many(g.n(2, 5), lambda: f"<p>{g.text(3, 6)}</p>")
    stamp = f'<div style="position:absolute;right:12%;bottom:16%">{g.stamp(110)}</div>' if g.chance(0.4) else ""
    face = g.pick("var(--serif),serif", "var(--sans),sans-serif")
    return g.page(
        PAPER + f"body{{font-family:{face}}}",
        f'<div class="r" style="margin-bottom:8%"><span class="g"></span>{g.logo(42)}&ensp;<b>{g.company()}</b></div>'
        f"<p>{g.name()}<br>{g.words(1)} {g.n(1, 200)}<br>{g.n(10000, 99999)} {g.words(1)}</p><p "
        f'style="text-align:end">{g.words(1)}, {g.date()}</p><p><b>{g.words(3, 8)}</b></p>{parts}<p>'
        f"{g.words(2, 3)}</p>{g.signature(150)}<p>{g.name()}</p>{stamp}",
    )


@layout("train", "document", "page")
def invoice(g: Gen) -> str:
    prices: list[float] = []

    def row() -> str:
        count, price = g.n(1, 12), g.n(100, 40000) / 100
        prices.append(count * price)
        cells = (str(len(prices)), g.words(2, 5), str(count), f"{price:,.2f}", f"{prices[-1]:,.2f}")
        return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    head = "".join(f"<th>{text}</th>" for text in ("#", g.words(1), g.words(1), g.words(1), "€"))
    rows = g.many(g.n(3, 11), row)
    net, tax, whole = totals(g, prices)
    return g.page(
        PAPER + "th{background:var(--ac);color:#fff}td,th{padding:5px 7px;border-bottom:1px solid var(--bd)}"
        "td:last-child,th:last-child{text-align:end}.s{margin-inline-start:55%}",
        f'<div class="r"><h1 class="g">{g.words(1)} {g.code(6)}</h1>{g.logo(56)}</div><div class="r" style="margin:6% '
        f'0;align-items:start"><p class="g">{g.company()}<br>{g.words(1)} {g.n(1, 99)}<br>{g.n(10000, 99999)} '
        f"{g.words(1)}</p><p>{g.words(1)}: {g.date()}<br>{g.words(1)}: {g.code(9)}<br>{g.words(1)}: {g.date()}</p>"
        f'</div><table><tr>{head}</tr>{rows}</table><table class="s" style="width:45%"><tr><td>{g.words(1)}</td><td>'
        f"{net}</td></tr><tr><td>{g.words(1)}</td><td>{tax}</td></tr><tr><td><b>{g.words(1)}</b></td><td><b>{whole} "
        f'€</b></td></tr></table><br><p>{g.text(1, 2)}</p>{g.signature(120)}<small class="m">IBAN DE{g.n(10, 99)} '
        f"{g.n(1000, 9999)} {g.n(1000, 9999)} {g.n(1000, 9999)} · {g.company()}</small>",
    )


@layout("train", "document", "page")
def certificate(g: Gen) -> str:
    return g.page(
        "body{padding:5%;text-align:center;font-family:var(--serif),serif}.f{border:6px double var(--ac);"
        "height:100%;padding:7% 8%}h1{font-size:2.5em;color:var(--ac);letter-spacing:.06em}.n{font-size:2em;"
        "border-bottom:1px solid var(--fg);margin:6% 8%}",
        f'<div class="f">{g.logo(64)}<h1>{g.words(1, 2).upper()}</h1><br><p>{g.words(4, 8)}</p><div class="n">'
        f"{g.name()}</div><p>{g.text(2, 3)}</p><br><p>{g.words(1)}: <b>{g.n(1, 5)},{g.n(0, 9)}</b> &emsp; "
        f'{g.words(1)}: <b>{g.date()}</b></p><div class="r" style="margin-top:10%"><div class="g">'
        f'{g.signature(130)}<br>{g.name()}</div><div class="g">{g.stamp(120)}</div><div class="g">{g.date()}<hr>'
        f"{g.words(1, 2)}</div></div></div>",
    )


@layout("train", "document", "page")
def lined_form(g: Gen) -> str:
    answers: list[Callable[[], str]] = [
        g.name,
        g.date,
        g.money,
        g.company,
        lambda: g.words(1, 3),
        lambda: g.code(9),
        lambda: f"{g.words(1)} {g.n(1, 99)}",
    ]
    ink = g.pick("#1c3d99", "#222", "#123")

    def field() -> str:
        answer = g.rng.choice(answers)() if g.chance(0.85) else ""
        return f'<div class="r f"><span class="m">{g.words(1, 3)}:</span><span class="g v">{answer}</span></div>'

    def ticks() -> str:
        return f"<p>{'☒' if g.chance(0.3) else '☐'} {g.words(3, 8)}</p>"

    groups = g.many(g.n(2, 3), lambda: f"<h3>{g.words(1, 3)}</h3>{g.many(g.n(3, 6), field)}")
    return g.page(
        PAPER + "h3{background:var(--card);padding:4px 8px;margin:12px 0}.f{margin-bottom:9px;gap:8px;align-items:end}"
        f".v{{border-bottom:1px dotted var(--mu);color:{ink};padding-inline-start:6px;min-height:22px;"
        "font-family:var(--mono),monospace}",
        f'<div class="r">{g.logo(40)}&ensp;<h1 class="g">{g.words(2, 4)}</h1>{g.code(7)}</div>{groups}<br>'
        f'{g.many(3, ticks)}<div class="r"><span class="g">{g.date()}</span>{g.signature(140)}</div>',
    )


@layout("train", "document", "page")
def contract(g: Gen) -> str:
    count = iter(range(1, 99))
    clauses = g.many(g.n(3, 6), lambda: f"<h4>§ {next(count)} {g.words(1, 4)}</h4><p>{g.text(2, 5)}</p>")
    return g.page(
        PAPER + "body{font-family:var(--serif),serif;text-align:justify}h1{text-align:center;margin-bottom:4%}",
        f"<h1>{g.words(1, 3)}</h1><p>{g.company()} – {g.name()}, {g.date()}</p>{clauses}<p><b>{g.money(90000)} €</b> "
        f'{g.text(1)}</p><div class="r" style="gap:12%"><div class="g">{g.signature(130)}<hr>{g.name()}</div><div '
        f'class="g">{g.signature(130)}<hr>{g.name()}</div></div>',
    )


@layout("train", "document", "card")
def identity_card(g: Gen) -> str:
    fields = "".join(
        f'<div><small class="m">{g.words(1)}</small><br><b>{value}</b></div>'
        for value in (g.name().split()[1].upper(), g.name().split()[0], g.date(), g.words(1), g.code(9), g.date())
    )
    bands = f"hsl({g.hue} 60% 88%) 0 3px,hsl({g.hue} 50% 94%) 3px 7px"
    wave = f"repeating-radial-gradient(circle at {g.n(0, 100)}% {g.n(0, 100)}%,{bands})"
    zone = g.code(9) + "<" * g.n(3, 9) + g.code(12)
    return g.page(
        f"body{{background:{wave};padding:14px 18px}}.q{{display:grid;grid-template-columns:1fr 1fr;gap:4px 14px;"
        "flex:1}small{font-size:.72em}.z{position:absolute;bottom:10px;left:18px;font:1.05em var(--mono),"
        "monospace;letter-spacing:.12em;direction:ltr}.av{border-radius:0!important}",
        f'<div class="r"><b class="g" style="font-size:1.25em;color:var(--ac)">{g.words(2, 3).upper()}</b>'
        f'{g.logo(34)}</div><div class="r" style="gap:18px;margin-top:10px;align-items:start">'
        f'{g.avatar(int(g.h * 0.42))}<div class="q">{fields}</div></div><div class="z">'
        f"{zone.replace('<', '&lt;')}</div>",
    )


@layout("train", "document", "strip")
def receipt(g: Gen) -> str:
    prices: list[float] = []

    def row() -> str:
        prices.append(g.n(50, 6000) / 100)
        return f"<tr><td>{g.words(1, 3)}</td><td>{prices[-1]:.2f}</td></tr>"

    rows = g.many(g.n(4, max(5, g.h // 40)), row)
    net, tax, whole = totals(g, prices)
    return g.page(
        "body{padding:16px 18px;font-family:var(--mono),monospace;text-align:center}table{width:100%}"
        "td:last-child{text-align:end}hr{border:0;border-top:1px dashed var(--fg);margin:8px 0}",
        f"<h2>{g.company()}</h2>{g.words(1)} {g.n(1, 99)}<br>{g.date()} {g.time()} #{g.n(1000, 9999)}<hr><table>"
        f"{rows}</table><hr><table><tr><td>{g.words(1)}</td><td>{net}</td></tr><tr><td>{g.words(1)}</td><td>{tax}</td>"
        f"</tr><tr><td><b>{g.words(1)}</b></td><td><b>{whole} €</b></td></tr></table><hr>{g.words(3, 5)}<br>"
        f"{g.code(14)}",
    )


# ---- For testing -----------------------------------------------------------------------------------------------------


@layout("test", "document", "page")
def memorandum(g: Gen) -> str:
    lines = "".join(
        f"<tr><td><b>{g.words(1)}</b></td><td>{make()}</td></tr>"
        for make in (g.name, g.company, g.date, lambda: g.words(3, 6))
    )
    points = g.many(g.n(2, 4), lambda: f"<li>{g.words(6, 14)}.</li>")
    return g.page(
        "body{display:flex}.s{width:26%;background:var(--card);padding:8% 4%;font-size:.85em;"
        "border-inline-end:3px solid var(--ac)}.b{padding:8% 6%}td{padding:3px 14px 3px 0}h1{font-size:1.9em}"
        "p,ol,table{margin-bottom:1em}ol{padding-inline-start:1.5em}",
        f'<div class="s">{g.logo(60)}<br><br><b>{g.company()}</b><br><br>{g.words(1)} {g.n(1, 99)}<br>'
        f"{g.n(1000, 9999)} {g.words(1)}<br><br>+{g.n(10, 99)} {g.n(100, 999)} {g.n(10000, 99999)}<br>"
        f'{g.word()}@{g.word()}.net</div><div class="b g"><h1>{g.words(1)}</h1><hr><table>{lines}</table><hr><br>'
        f"{g.many(g.n(1, 3), lambda: f'<p>{g.text(3, 5)}</p>')}<ol>{points}</ol><p>{g.text(1, 3)}</p>"
        f"{g.signature(120)}</div>",
    )


@layout("test", "document", "page")
def account_statement(g: Gen) -> str:
    balance = g.n(1000, 9000) / 1.0

    def row() -> str:
        nonlocal balance
        change = g.n(-60000, 80000) / 100
        balance += change
        text = f"{g.company()}<br><small>{g.code(12)}</small>"
        return f"<tr><td>{g.date()}</td><td>{text}</td><td>{change:+.2f}</td><td>{balance:.2f}</td></tr>"

    rows = g.many(g.n(5, 11), row)
    return g.page(
        PAPER + "body{padding:6%}td,th{border:1px solid var(--bd);padding:4px 8px}td:nth-child(n+3){text-align:end}"
        ".k{border:2px solid var(--ac);padding:12px;margin:4% 0;gap:8%}th{font-weight:400;color:var(--ac)}",
        f'<div class="r">{g.logo(46)}<h1 class="g" style="text-align:end">{g.words(1, 2)}</h1></div><div class="r k">'
        f'<span class="g">{g.name()}<br>{g.words(1)} {g.n(1, 99)}, {g.words(1)}</span><span>ES{g.n(10, 99)} '
        f"{g.n(1000, 9999)} {g.n(1000, 9999)}<br>{g.date()}</span></div><table><tr>"
        f"{''.join(f'<th>{g.words(1)}</th>' for _ in range(4))}</tr>{rows}</table><br><h2 style="
        f'"text-align:end">$ {balance:,.2f}</h2><p class="m">{g.text(2, 3)}</p>{g.stamp(120) if g.chance(0.5) else ""}',
    )


@layout("test", "document", "page")
def diploma(g: Gen) -> str:
    marks = g.many(g.n(4, 7), lambda: f"<tr><td>{g.words(1, 2)}</td><td>{g.n(5, 10)}</td><td>{g.words(1)}</td></tr>")
    return g.page(
        "body{padding:4% 10%;font-family:var(--serif),serif;border:14px solid var(--ac);outline:2px solid var(--ac);"
        "outline-offset:-26px}h1{font:italic 2.2em var(--serif);margin:3% 0}td{padding:4px 10px;"
        "border-bottom:1px dotted var(--mu)}table{width:100%;margin:5% 0}",
        f'<div style="text-align:center">{g.logo(70)}<div>{g.company()}</div><h1>{g.words(1, 2)}</h1></div><p>'
        f"{g.text(1)}</p><h2>{g.name()}</h2><p>{g.words(1)}: {g.date()}, {g.words(1)}</p><br><p>{g.text(2, 3)}</p>"
        f"<table>{marks}</table><div class='r'><div class='g'>{g.signature(140)}<br><small>{g.name()}</small></div>"
        f"{g.stamp(130)}</div><small>№ {g.code(8)}</small>",
    )


@layout("test", "document", "page")
def boxed_form(g: Gen) -> str:
    def cells() -> str:
        makers: list[Callable[[], str]] = [
            g.date,
            lambda: g.code(10),
            lambda: g.name().upper(),
            lambda: str(g.n(10**6, 10**8)),
        ]
        value = g.rng.choice(makers)()
        boxes = "".join(f"<i>{sign}</i>" for sign in value.ljust(18)[:18])
        return f'<label>{g.words(1, 3)}</label><div class="x">{boxes}</div>'

    def block() -> str:
        number = g.n(1, 30)
        pairs = "".join(
            f'<div class="k g"><small>{number}{letter} {g.words(1, 2)}</small><br>{g.words(1, 2)}</div>'
            for letter in "ab"
        )
        return f'<div class="r">{pairs}</div>'

    return g.page(
        PAPER + "body{padding:5%}label{display:block;font-size:.8em;color:var(--ac)}.x{display:flex;margin-bottom:8px;"
        "direction:ltr}.x i{border:1px solid var(--ac);border-inline-end-width:0;flex:1;height:26px;"
        "text-align:center;font:600 15px/25px var(--mono)}.x i:last-child{border-inline-end-width:1px}"
        ".k{border:1px solid var(--fg);padding:3px 7px}small{font-size:.72em}",
        f'<div class="r"><h1 class="g">{g.words(2, 4).upper()}</h1><span class="k">{g.code(5)}</span></div><p '
        f'class="m">{g.text(1)}</p>{g.many(g.n(3, 5), cells)}<br>{g.many(g.n(2, 5), block)}<br><p>{g.text(2)}</p><div '
        f"class='r'><div class='k g'>{g.date()}</div><div class='k g'>{g.signature(110)}</div></div>",
    )


@layout("test", "document", "page")
def two_column_terms(g: Gen) -> str:
    count = iter(range(1, 99))
    clauses = g.many(g.n(5, 8), lambda: f"<p><b>{next(count)}. {g.words(1, 3)}.</b> {g.text(2, 5)}</p>")
    return g.page(
        PAPER + f"body{{padding:5% 6%}}.q{{columns:2;column-gap:5%;font-size:.9em;height:{g.h * 0.66:.0f}px}}"
        "h1{border-inline-start:8px solid var(--ac);padding-inline-start:12px;margin-bottom:3%}",
        f'<h1>{g.words(2, 4)}</h1><p class="m">{g.company()} · {g.date()} · {g.code(6)}</p><div class="q">{clauses}'
        '</div><div class="r">'
        f'<span class="g">{g.name()}, {g.date()}</span>{g.signature(120)}{g.stamp(90)}</div>',
    )


@layout("test", "document", "card")
def member_pass(g: Gen) -> str:
    bars = "".join(f'<rect x="{at * 3}" width="{g.n(1, 3)}" height="40"/>' for at in range(40))
    return g.page(
        f"body{{background:linear-gradient(100deg,hsl({g.hue} 50% 30%) 34%,#fff 34.3%);display:flex}}.s{{width:34%;"
        "color:#fff;padding:18px;text-align:center}.b{padding:18px 22px}p{margin-bottom:3px}",
        f'<div class="s">{g.avatar(int(g.w * 0.2))}<br><br><b>{g.words(1).upper()}</b><br>{g.code(6)}</div><div '
        f'class="b g"><h2>{g.company()}</h2><br><p>{g.words(1)}: <b>{g.name()}</b></p><p>{g.words(1)}: <b>'
        f"{g.date()}</b></p><p>{g.words(1)}: <b>{g.date()}</b></p><p>{g.words(1)}: <b>{g.words(1, 2)}</b></p><br><svg "
        f'width="120" height="{g.n(22, 40)}">{bars}</svg></div>',
    )


@layout("test", "document", "strip")
def travel_ticket(g: Gen) -> str:
    pairs = g.many(
        g.n(3, max(4, g.h // 130)),
        lambda: (
            f'<div class="r k"><div class="g"><small>{g.words(1)}</small><br><b>{g.words(1, 2)}</b></div><div><small>'
            f"{g.words(1)}</small><br><b>{g.pick(g.time(), g.date(), g.code(3))}</b></div></div>"
        ),
    )
    return g.page(
        ".h{background:var(--ac);color:#fff;padding:16px;font-size:1.3em}.k{padding:8px 16px;border-bottom:1px "
        "solid var(--bd)}small{color:var(--mu)}.t{font-size:2em;padding:10px 16px}",
        f'<div class="r h"><b class="g">{g.words(1)}</b>{g.logo(30)}</div><div class="r t"><b class="g">'
        f'{g.code(3)}</b>→<b class="g" style="text-align:end">{g.code(3)}</b></div>{pairs}<div class="t">$ '
        f'{g.money(300)}</div><p style="padding:0 16px">{g.text(1, 2)}</p>',
    )
