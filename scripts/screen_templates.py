"""Layouts of screens and documents as functions that return HTML, and the random texts, colours and pictures in them.

Every layout belongs to one side, `train` or `test`, and to one category; both sides have all categories, but no layout,
font, language or icon in common. `LAYOUTS` lists them. Nothing is loaded from anywhere: pages hold all they show.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Side = Literal["train", "test"]
Shape = Literal["phone", "desktop", "any", "page", "card", "strip", "slide"]

# fmt: off
VOCABULARY: dict[str, dict[str, str]] = {
    "train": {
        "en": "river market window letter garden bridge silver morning report update north engine paper travel kitchen "
              "budget meeting summer ticket order status village harbour station music winter delivery review account "
              "project number street picture level simple early under quiet open second",
        "de": "Bericht Straße Ausgabe Termin Wetter Zeitung Rechnung Garten Brücke Stunde Größe Haus Anfrage Ordner "
        "über Monat heute schnell Auftrag Übersicht Kunde Zahlung klein morgen und mit von der die das",
        "fr": "maison travail été rapport facture semaine commande réunion client voyage lumière école jardin état "
        "près livraison mois service projet avec pour dans très grand note élève",
        "ru": "дом работа отчёт город письмо время заказ встреча счёт новый улица проект вода день неделя сообщение "
              "файл книга зима музыка быстро",
        "zh": "北京 项目 报告 时间 市场 会议 今天 订单 数据 天气 新闻 设置 城市 音乐 图片 用户 价格 服务",
        "ar": "بيت عمل تقرير مدينة كتاب يوم رسالة وقت سوق صورة جديد طلب خدمة مشروع",
    },
    "test": {
        "en": "mountain signal coffee planet invoice corner yellow system evening transfer south battery copper "
        "journey library contract spring parcel customer profile castle island airport theatre autumn payment "
        "setting camera product member square folder medium later above famous closed third",
        "es": "casa trabajo informe factura semana pedido reunión cliente viaje luz escuela jardín mañana envío mes "
              "servicio proyecto con para año grande nota señal",
        "it": "lavoro relazione città fattura settimana ordine riunione viaggio luce scuola giardino perché spedizione "
              "mese progetto con più grande nota",
        "pl": "dom praca raport miasto list czas zamówienie spotkanie rachunek nowy ulica źródło woda dzień tydzień "
              "wiadomość zdjęcie książka łódź",
        "el": "σπίτι εργασία έκθεση πόλη γράμμα χρόνος αγορά εικόνα νέο δρόμος μέρα εβδομάδα μουσική νερό βιβλίο",
        "he": "בית עבודה דוח עיר ספר יום הודעה זמן שוק תמונה חדש הזמנה שירות",
    },
}
FIRST = {
    "train": "Anna Ben Clara David Emma Felix Greta Hugo Ivan Julia Karl Lena Max Nora Otto Paul Rita Sven Tara Udo",
    "test": "Alba Bruno Carla Diego Elena Fabio Gina Hanna Igor Jana Kofi Lucia Marek Nina Omar Petra Raul Sara Tom",
}
LAST = {"train": "Adler Bauer Clarke Dubois Evans Fischer Garnier Hughes Ivanov Keller Lambert Moreau Neumann Parker",
        "test": "Alvarez Bianchi Costa Dimas Esposito Ferrari Gomez Herrera Kowalski Lopez Marino Nowak Ortega Rossi"}
FONTS = {
    "train": {"sans": ["Roboto", "Liberation Sans", "Noto Sans"], "serif": ["Liberation Serif", "Noto Serif"],
              "mono": ["Liberation Mono", "Fira Code"]},
    "test": {"sans": ["Open Sans", "Lato", "DejaVu Sans"], "serif": ["DejaVu Serif", "Noto Serif Display"],
             "mono": ["DejaVu Sans Mono", "Noto Sans Mono"]},
}
ICONS = {
    "train": ["M3 11L12 3l9 8v10h-6v-6H9v6H3z", "M10 4a6 6 0 100 12 6 6 0 000-12zM15 15l6 6", "M4 6h16M4 12h16M4 18h16",
              "M3 6h18v12H3zM3 6l9 7 9-7", "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 "
              "17l2 2",
              "M5 3h10l4 4v14H5zM8 12h8M8 16h8", "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z", "M12 4v16M4 "
              "12h16",
              "M6 17V10a6 6 0 0112 0v7l2 2H4zM10 21h4", "M3 20h18M6 20V10M11 20V4M16 20v-8", "M5 12l5 5L20 6"],
    "test": ["M12 21C2 14 2 5 8 4c2 0 4 2 4 3 0-1 2-3 4-3 6 1 6 10-4 17z", "M12 2l3 7 7 .6-5.4 4.6L18.500 22 12 "
    "17.700z",
             "M3 5h18v11H9l-5 4v-4H3z", "M12 3a5 5 0 110 10 5 5 0 010-10zM3 21c1-9 17-9 18 0z", "M2 4h3l1 3h15l-3 9H8z",
             "M8 21a1.600 1.600 0 110-.1zM3 6h7l2 3h9v11H3z", "M5 11h14v10H5zM8 11V7a4 4 0 018 0v4h-2V7a2 2 0 00-4 "
             "0v4z",
             "M12 2a7 7 0 017 7c0 5-7 13-7 13S5 14 5 9a7 7 0 017-7z", "M6 4l14 8-14 8z", "M13 2L4 14h7l-1 8 9-12h-7z",
             "M4 7h4l2-3h4l2 3h4v13H4z"],
}
# fmt: on
DARK_INK = ("#1c1c22", "#222", "#0b1726", "#2b2118", "#111")


class Gen:
    """Everything random about one page; `w` and `h` are the viewport in CSS pixels."""

    def __init__(self, side: Side, seed: str, w: int, h: int, *, paper: bool = False) -> None:
        self.rng = random.Random(seed)
        self.side, self.w, self.h = side, w, h
        rng, fonts = self.rng, FONTS[side]
        languages = [name for name in VOCABULARY[side] if not (paper and name in ("ar", "he"))]
        self.lang = "en" if rng.random() < 0.4 else rng.choice(languages)
        self.lexicon = VOCABULARY[side][self.lang].split()
        self.sans, self.serif, self.mono = (rng.choice(fonts[kind]) for kind in ("sans", "serif", "mono"))
        self.hue = rng.randrange(360)
        self.dark = not paper and rng.random() < 0.35
        self.icons = rng.sample(ICONS[side], rng.randint(3, len(ICONS[side])))
        self.shapes = [rng.randrange(10**6) for _ in range(rng.randint(1, 8))]
        if paper:
            self.bg, self.card, self.fg, self.mu, self.bd = (
                "#fff",
                "#f4f5f7",
                rng.choice(DARK_INK),
                "#666c75",
                "#c9ccd1",
            )
            if rng.random() < 0.25:
                self.bg = rng.choice(("#fffdf6", "#fbfbf8", "#f8fbff", "#fffafa"))
        elif self.dark:
            tint = rng.choice((0, 8, 20))
            light = rng.choice((0, 7, 12, 16))
            self.bg, self.card = f"hsl({self.hue} {tint}% {light}%)", f"hsl({self.hue} {tint}% {light + 7}%)"
            self.fg, self.mu, self.bd = "#ececf0", "#9a9aa6", f"hsl({self.hue} {tint}% {light + 15}%)"
        else:
            tint = rng.choice((0, 0, 15, 40))
            light = rng.choice((100, 100, 97, 94))
            self.bg, self.card = f"hsl({self.hue} {tint}% {light}%)", rng.choice(("#fff", "#f3f4f6", "#fafafa"))
            self.fg, self.mu, self.bd = rng.choice(DARK_INK), "#757b85", rng.choice(("#ddd", "#e4e6ea", "#c8ccd2"))
        self.ac = f"hsl({self.hue} {rng.randint(45, 85)}% {rng.randint(34, 52)}%)"
        self.fs = rng.choice((13, 13, 14, 15, 16))
        if paper and h > w >= 540:  # a whole page: its letters grow with it
            self.fs = round(w / rng.uniform(42, 56))

    def chance(self, share: float) -> bool:
        """True in this share of the calls."""
        return self.rng.random() < share

    def n(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.rng.randint(low, high)

    def pick(self, *options: str) -> str:
        """One of the options."""
        return self.rng.choice(options)

    def word(self) -> str:
        """A word of the page's language."""
        return self.rng.choice(self.lexicon)

    def words(self, low: int, high: int | None = None) -> str:
        """Some words, the first with a capital letter."""
        text = " ".join(self.word() for _ in range(self.n(low, high or low)))
        return text[:1].upper() + text[1:]

    def text(self, low: int, high: int | None = None) -> str:
        """Some sentences."""
        return " ".join(self.words(4, 13) + "." for _ in range(self.n(low, high or low)))

    def name(self) -> str:
        """A first and a last name."""
        return f"{self.rng.choice(FIRST[self.side].split())} {self.rng.choice(LAST[self.side].split())}"

    def company(self) -> str:
        """The name of a company."""
        return (
            f"{self.rng.choice(LAST[self.side].split())} {self.words(1)} {self.pick('Ltd', 'AG', 'Inc', '& Co', 'SA')}"
        )

    def money(self, top: int = 2000) -> str:
        """An amount of money without its currency."""
        amount = self.rng.random() ** 2 * top
        return f"{amount:,.2f}" if self.side == "train" else f"{amount:,.2f}".translate(str.maketrans(",.", ".,"))

    def date(self) -> str:
        """A date in the form of the side."""
        day, month, year = self.n(1, 28), self.n(1, 12), self.n(2009, 2026)
        return f"{day:02}.{month:02}.{year}" if self.side == "train" else f"{year}-{month:02}-{day:02}"

    def time(self) -> str:
        """A time of day."""
        return f"{self.n(0, 23)}:{self.n(0, 59):02}"

    def code(self, length: int = 8) -> str:
        """Capital letters and digits."""
        return "".join(self.rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ0123456789") for _ in range(length))

    def colour(self, light: int | None = None) -> str:
        """Any colour, of this lightness if given."""
        return f"hsl({self.n(0, 359)} {self.n(35, 90)}% {light or self.n(35, 65)}%)"

    def many(self, count: int, make: Callable[[], str]) -> str:
        """`count` different pieces."""
        return "".join(make() for _ in range(count))

    def rows(self, count: int, make: Callable[[], str]) -> str:
        """`count` pieces, which are often identical or come back in turn: what copies of a part look like."""
        kind = self.rng.random()
        if kind < 0.5:
            pool = [make() for _ in range(self.n(1, 4))]
            return "".join(pool[at % len(pool)] if kind < 0.3 else self.rng.choice(pool) for at in range(count))
        return self.many(count, make)

    def fill(self, pixels: float, across: int = 1) -> int:
        """How many pieces this high fill the page; sometimes it stays partly empty."""
        full = math.ceil(self.h / pixels)
        return across * (full if self.chance(0.75) else self.n(2, max(2, full)))

    def icon(self, size: float = 20, colour: str = "currentColor", at: int | None = None) -> str:
        """One of the page's icons: outlines in `train`, filled in `test`."""
        path = self.rng.choice(self.icons) if at is None else self.icons[at % len(self.icons)]
        style = f'fill="none" stroke="{colour}" stroke-width="2"' if self.side == "train" else f'fill="{colour}"'
        return f'<svg width="{size}" height="{size}" viewBox="0 0 24 24" {style}><path d="{path}"/></svg>'

    def avatar(self, size: int) -> str:
        """A round (`train`) or rounded (`test`) portrait: initials or a drawn head."""
        rng = random.Random(self.rng.choice(self.shapes))
        fill = f"hsl({rng.randrange(360)} 50% {rng.randint(40, 70)}%)"
        radius = 24 if self.side == "train" else 9
        inner = f'<text x="24" y="31" font-size="20" text-anchor="middle" fill="#fff">{rng.choice("ABEHKMNRST")}</text>'
        if rng.random() < 0.5:
            skin = rng.choice(("#f1c9a5", "#8d5a3a", "#d9a066", "#ffe0bd"))
            inner = f'<circle cx="24" cy="19" r="9" fill="{skin}"/><path d="M6 48c2-24 34-24 36 0z" fill="#fff9"/>'
        return (
            f'<svg class="av" width="{size}" height="{size}" viewBox="0 0 48 48" style="border-radius:'
            f"{radius * size / 48}"
            f'px;flex:none"><rect width="48" height="48" fill="{fill}"/>{inner}</svg>'
        )

    def picture(self, w: str = "100%", h: str = "100%") -> str:
        """A drawn picture; few different ones to a page, so that the same one is seen often."""
        rng = random.Random(self.rng.choice(self.shapes))
        hue, base = rng.randrange(360), rng.randint(75, 95)
        a, b = f"hsl({hue} 50% {base}%)", f"hsl({(hue + 40) % 360} 60% {base - 25}%)"
        ink, pale = f"hsl({(hue + rng.randint(90, 270)) % 360} 55% 42%)", f"hsl({hue} 30% 60%)"
        key = f"g{self.n(0, 10**9)}"
        if self.side == "train":
            hill = " ".join(f"{x},{rng.randint(45, 75)}" for x in range(0, 101, 20))
            things = [
                f'<circle cx="70" cy="25" r="9" fill="#fff8"/><polygon points="0,100 {hill} 100,100" fill="{ink}"/>',
                f'<path d="M40 20h20v15l8 12v38H32V47l8-12z" fill="{ink}"/><path d="M32 55h36v16H32z" fill="#fffc"/>',
                f'<path d="M25 35h40v38q0 10-10 10H35q-10 0-10-10zM65 42q18 0 14 14-3 12-14 10" fill="{ink}" '
                f'stroke="{pale}"/>',
                f'<path d="M30 22l14-4q6 8 12 0l14 4 14 20-12 7-4-7v42H32V42l-4 7-12-7z" fill="{ink}"/>',
            ]
        else:
            towers = "".join(
                f'<rect x="{x}" y="{(y := rng.randint(25, 70))}" width="13" height="{100 - y}" fill="{ink}"/>'
                for x in range(2, 95, 16)
            )
            things = [
                towers,
                f'<path d="M35 20h30l14 30H21z" fill="{ink}"/><path d="M48 50h4v32h-4zM34 82h32v5H34z" fill="#333"/>',
                f'<path d="M36 60h28l-5 28H41z" fill="{pale}"/><path d="M50 60C20 50 25 25 30 20c15 5 20 20 20 40z'
                f'M50 60c30-8 28-30 24-38-16 6-24 20-24 38z" fill="{ink}"/>',
                '<rect x="18" y="28" width="64" height="42" rx="4" fill="#222"/><rect x="21" y="31" width="58" '
                f'height="36" fill="{ink}"/><path d="M42 70h16l4 12H38z" fill="#555"/>',
            ]
        return (
            f'<svg width="{w}" height="{h}" viewBox="0 0 100 100" preserveAspectRatio="xMidYMid slice" '
            f'style="display:block"><defs><linearGradient id="{key}" x2="{rng.choice((0, 1))}" y2="1"><stop '
            f'stop-color="{a}"/><stop offset="1" stop-color="{b}"/></linearGradient></defs><rect width="100" '
            f'height="100" fill="url(#{key})"/>{rng.choice(things)}</svg>'
        )

    def logo(self, size: int) -> str:
        """A made-up company's mark."""
        shapes = [
            f'<circle cx="20" cy="20" r="18" fill="{self.ac}"/><path d="M10 26l10-16 10 16z" fill="#fff"/>',
            f'<path d="M20 2l18 10v16L20 38 2 28V12z" fill="{self.ac}"/><circle cx="20" cy="20" r="7" fill="#fff"/>',
            f'<rect x="2" y="2" width="16" height="36" fill="{self.ac}"/><circle cx="29" cy="20" r="9" fill="{self.fg}'
            '"/>',
            f'<path d="M2 38L20 2l18 36h-9L20 20l-9 18z" fill="{self.ac}"/>',
        ]
        mine = shapes[:2] if self.side == "train" else shapes[2:]
        return f'<svg width="{size}" height="{size}" viewBox="0 0 40 40">{self.rng.choice(mine)}</svg>'

    def stamp(self, size: int) -> str:
        """A stamp of an office, a little turned, to be laid over the page."""
        colour, turn = self.pick("#b3242a", "#1f3f9c", "#2a6f3f", "#5a2d82"), self.n(-25, 25)
        label = self.code(6)
        ring = (
            '<circle cx="50" cy="50" r="46"/><circle cx="50" cy="50" r="32"/>'
            if self.side == "train"
            else '<rect x="4" y="22" width="92" height="56" rx="6"/><rect x="9" y="27" width="82" height="46" rx="3"/>'
        )
        return (
            f'<svg width="{size}" height="{size}" viewBox="0 0 100 100" style="opacity:.75;'
            f'transform:rotate({turn}deg)"><g fill="none" stroke="{colour}" stroke-width="2.5">{ring}</g><text x="50" '
            f'y="48" font-size="13" text-anchor="middle" fill="{colour}" font-weight="700">{label}</text><text x="50" '
            f'y="62" font-size="9" text-anchor="middle" fill="{colour}">{self.date()}</text></svg>'
        )

    def signature(self, w: int) -> str:
        """A signature by a pen."""
        x, path = 4, f"M4 {self.n(18, 30)}"
        while x < 88:
            step = self.n(5, 14)
            path += f"C{x + self.n(-4, 8)} {self.n(-2, 14)} {x + self.n(0, 10)} {self.n(26, 40)} "
            path += f"{x + step} {self.n(12, 28)}"
            x += step
        ink = self.pick("#14213d", "#1d3fae", "#222")
        return (
            f'<svg width="{w}" height="{w * 0.4}" viewBox="0 0 100 40"><path d="{path}" fill="none" stroke="{ink}" '
            f'stroke-width="{self.rng.uniform(0.8, 1.8):.1f}" stroke-linecap="round"/></svg>'
        )

    def page(self, css: str, body: str) -> str:
        """The document; the style sheet finds the colours and fonts as variables."""
        direction = "rtl" if self.lang in ("ar", "he") else "ltr"
        names = ("bg", "card", "fg", "mu", "bd", "ac", "sans", "serif", "mono")
        variables = "".join(f"--{name}:{getattr(self, name)};" for name in names)
        return (
            f'<!doctype html><html dir="{direction}"><head><meta charset="utf-8"><style>:root{{{variables}}}'
            "*{box-sizing:border-box;margin:0;padding:0}body{background:var(--bg);color:var(--fg);overflow:hidden;"
            f"font:{self.fs}px/1.4 var(--sans),sans-serif;height:{self.h}px;width:{self.w}px}}.r{{display:flex;"
            "align-items:center}.g{flex:1;min-width:0}.m{color:var(--mu)}.e{white-space:nowrap;overflow:hidden;"
            f"text-overflow:ellipsis}}td,th{{text-align:start}}{css}</style></head><body>{body}</body></html>"
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """One function that returns HTML: its side, its category, and the shape of window it is made for."""

    side: Side
    category: str
    shape: Shape
    make: Callable[[Gen], str]

    @property
    def name(self) -> str:
        """The function's name; it is part of the file's name."""
        return self.make.__name__.replace("_", "-")


LAYOUTS: list[Layout] = []
Maker = Callable[[Gen], str]


def layout(side: Side, category: str, shape: Shape) -> Callable[[Maker], Maker]:
    """Enter a function into `LAYOUTS`."""

    def enter(make: Maker) -> Maker:
        LAYOUTS.append(Layout(side, category, shape, make))
        return make

    return enter


def lines_svg(g: Gen, w: float, h: float, *, area: bool = False) -> str:
    """A line chart: straight with dots and a grid, or (`area`) smooth and filled."""
    parts = [
        f'<path d="M0 {h * at / 5:.0f}H{w:.0f}" stroke="{g.bd}"/><text x="2" y="{h * at / 5 - 3:.0f}" font-size="9" '
        f'fill="{g.mu}">{(5 - at) * 20}</text>'
        for at in range(1, 6)
    ]
    for _ in range(g.n(1, 3)):
        count, colour, level = g.n(6, 24), g.colour(), g.rng.uniform(0.3, 0.7)
        points = []
        for at in range(count):
            level = min(0.95, max(0.05, level + g.rng.uniform(-0.16, 0.16)))
            points.append((w * at / (count - 1), h * level))
        if area:
            half = w / (count - 1) / 2
            path = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(
                f"C{x - half:.1f} {before:.1f} {x - half:.1f} {y:.1f} {x:.1f} {y:.1f}"
                for (_, before), (x, y) in itertools.pairwise(points)
            )
            parts.append(f'<path d="{path}V{h}H0z" fill="{colour}" opacity=".25"/>')
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        else:
            joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return f'<svg width="{w:.0f}" height="{h:.0f}">{"".join(parts)}</svg>'


def bars_svg(g: Gen, w: float, h: float, *, lying: bool = False) -> str:
    """A bar chart, upright or lying; equal bars are common."""
    count, steps, colour = g.n(5, 16), g.n(4, 20), g.colour()
    two = g.colour() if g.chance(0.5) else colour
    parts = []
    for at in range(count):
        size, pitch = g.n(1, steps) / steps * 0.92, (h if lying else w) / count
        fill = two if at % 2 else colour
        box = (0.0, at * pitch + pitch * 0.15, w * size, pitch * 0.7)
        if not lying:
            box = (at * pitch + pitch * 0.15, h - h * size, pitch * 0.7, h * size)
        x, y, across, down = (round(side) for side in box)
        parts.append(f'<rect x="{x}" y="{y}" width="{across}" height="{down}" fill="{fill}"/>')
    return f'<svg width="{w:.0f}" height="{h:.0f}" style="background:{g.card}">{"".join(parts)}</svg>'


def pie_svg(g: Gen, size: float, *, hole: bool = False) -> str:
    """A pie chart or a ring."""
    at, parts, radius = 0.0, [], 50 if not hole else 36
    shares = [g.rng.uniform(0.3, 1) for _ in range(g.n(3, 7))]
    for share in shares:
        angle = share / sum(shares) * 2 * math.pi
        x1, y1 = 50 + radius * math.cos(at), 50 + radius * math.sin(at)
        x2, y2 = 50 + radius * math.cos(at + angle), 50 + radius * math.sin(at + angle)
        arc = f"A{radius} {radius} 0 {int(angle > math.pi)} 1 {x2:.2f} {y2:.2f}"
        if hole:
            parts.append(
                f'<path d="M{x1:.2f} {y1:.2f}{arc}" fill="none" stroke="{g.colour()}" stroke-width="{g.n(18, 20)}"/>'
            )
        else:
            parts.append(f'<path d="M50 50L{x1:.2f} {y1:.2f}{arc}z" fill="{g.colour()}" stroke="{g.bg}"/>')
        at += angle
    return f'<svg width="{size:.0f}" height="{size:.0f}" viewBox="0 0 100 100">{"".join(parts)}</svg>'


def heat_svg(g: Gen, across: int, down: int, cell: int) -> str:
    """A heat map of squares."""
    steps = [f"hsl({g.hue} 65% {light}%)" for light in (90, 75, 60, 45, 30)]
    squares = "".join(
        f'<rect x="{x * cell}" y="{y * cell}" width="{cell - 2}" height="{cell - 2}" rx="2" fill="{g.pick(*steps)}"/>'
        for x in range(across)
        for y in range(down)
    )
    return f'<svg width="{across * cell}" height="{down * cell}">{squares}</svg>'


def status_bar(g: Gen) -> str:
    """The top line of a phone."""
    bars = (
        '<svg width="44" height="12" fill="currentColor"><path d="M0 9h3v3H0zM5 6h3v6H5zM10 3h3v9h-3zM15 0h3v12h-3z"/>'
    )
    bars += '<path d="M24 1h17v10H24z" opacity=".8"/><path d="M41 4h2v4h-2z"/></svg>'
    return (
        '<div class="r" style="height:24px;padding:0 12px;font-size:12px;font-weight:600"><span class="g">'
        f"{g.time()}</span>{bars}</div>"
    )


# ---- Screens for training --------------------------------------------------------------------------------------------


@layout("train", "chat-list", "any")
def chat_list_plain(g: Gen) -> str:
    size = g.n(36, 56)
    tick = f'<b style="background:{g.ac};color:#fff;border-radius:9px;padding:0 6px;font-size:11px">{g.n(1, 9)}</b>'

    def row() -> str:
        end = f'<span class="m" style="font-size:12px">{g.time()}</span><br>{tick if g.chance(0.4) else "✓✓"}'
        return (
            f'<div class="r c">{g.avatar(size)}<div class="g"><div class="e"><b>{g.name()}</b></div><div class="e m">'
            f'{g.words(3, 9)}</div></div><div style="text-align:end">{end}</div></div>'
        )

    head = f'<div class="r h"><b class="g">{g.words(1)}</b>{g.icon(22)}&nbsp;{g.icon(22)}</div>'
    return g.page(
        ".h{background:var(--ac);color:#fff;padding:14px 16px;font-size:1.2em}.c{gap:12px;padding:10px 14px;"
        "border-bottom:1px solid var(--bd)}",
        head + g.rows(g.fill(size + 20), row),
    )


@layout("train", "chat", "any")
def chat_bubbles(g: Gen) -> str:
    def bubble() -> str:
        mine = g.chance(0.5)
        body = f'<div style="width:180px;height:120px">{g.picture()}</div>' if g.chance(0.1) else g.words(1, 14)
        when = f'<span class="m t">{g.time()} {"✓✓" if mine else ""}</span>'
        return f'<div class="b {"me" if mine else ""}">{body}{when}</div>'

    dots = f"background:radial-gradient({g.bd} 1.5px,transparent 2px) 0 0/{g.n(14, 30)}px {g.n(14, 30)}px"
    return g.page(
        f".l{{display:flex;flex-direction:column;gap:7px;padding:10px;{dots if g.chance(0.5) else ''}}}"
        ".b{background:var(--card);border:1px solid var(--bd);border-radius:12px;padding:7px 11px;max-width:75%;"
        f"align-self:flex-start}}.me{{align-self:flex-end;background:hsl({g.hue} 45% {25 if g.dark else 88}%)}}"
        ".t{font-size:.72em;margin-inline-start:8px}.h{gap:10px;padding:10px;border-bottom:1px solid var(--bd);"
        "background:var(--card)}",
        f'<div class="r h">{g.avatar(36)}<b class="g">{g.name()}</b>{g.icon()}</div><div class="l">'
        f"{g.rows(g.fill(44), bubble)}</div>",
    )


@layout("train", "mail", "desktop")
def mail_three_panes(g: Gen) -> str:
    def row() -> str:
        bold = "font-weight:700" if g.chance(0.3) else ""
        return (
            f'<div class="c" style="{bold}"><div class="r"><span class="g e">{g.name()}</span><small class="m">'
            f'{g.date()}</small></div><div class="e">{g.words(3, 8)}</div><div class="e m">{g.words(6, 12)}</div></div>'
        )

    side = "".join(
        f'<div class="r s">{g.icon(16)}<span class="g e">{g.words(1)}</span>{g.n(0, 90)}</div>' for _ in range(9)
    )
    return g.page(
        "body{display:grid;grid-template-columns:170px 300px 1fr}.s{gap:8px;padding:7px 12px}.c{padding:8px 12px;"
        "border-bottom:1px solid var(--bd)}.p{border-inline-end:1px solid var(--bd);overflow:hidden}.x{padding:24px}",
        f'<div class="p" style="background:var(--card)">{side}</div><div class="p">{g.rows(g.fill(70), row)}</div>'
        f'<div class="x"><h2>{g.words(3, 7)}</h2><div class="r" style="gap:10px;margin:14px 0">{g.avatar(40)}{g.name()}'
        f"</div>{g.many(g.n(2, 6), lambda: f'<p>{g.text(2, 4)}</p><br>')}</div>",
    )


@layout("train", "table", "any")
def zebra_table(g: Gen) -> str:
    columns, height = g.n(3, max(3, g.w // 130)), g.n(22, 46)
    kinds: list[Callable[[], str]] = [
        g.rng.choice([g.date, g.name, g.money, g.time, lambda: g.words(1, 2), lambda: g.pick("OK", "–", "0,00", "1")])
        for _ in range(columns)
    ]
    box = f'<td style="width:30px">{g.icon(15)}</td>' if g.chance(0.5) else ""
    head = "".join(f"<th>{g.words(1)}</th>" for _ in range(columns))
    rows = g.rows(g.fill(height), lambda: f"<tr>{box}{''.join(f'<td>{kind()}</td>' for kind in kinds)}</tr>")
    return g.page(
        f"table{{width:100%;border-collapse:collapse;table-layout:fixed}}td,th{{height:{height}px;padding:0 10px;"
        "overflow:hidden;white-space:nowrap}th{background:var(--ac);color:#fff}"
        "tr:nth-child(odd){background:var(--card)}h2{padding:12px}"
        f"{'td{border:1px solid var(--bd)}' if g.chance(0.4) else ''}",
        f"<h2>{g.words(2, 4)}</h2><table><tr>{'<th></th>' if box else ''}{head}</tr>{rows}</table>",
    )


@layout("train", "shop", "any")
def shop_grid(g: Gen) -> str:
    across = max(2, g.w // g.n(170, 280))
    height = g.n(110, 210)
    badge = f'<i class="k">−{g.n(5, 50)}%</i>'

    def item() -> str:
        return (
            f'<div class="c"><div style="height:{height}px;position:relative">{g.picture()}'
            f"{badge if g.chance(0.4) else ''}</div><div class="
            f'"e" style="padding:6px 8px 0">{g.words(2, 5)}</div><div class="r" style="padding:0 8px 8px"><b class="g">'
            f"{g.money(300)} €</b>{g.icon(18)}</div></div>"
        )

    return g.page(
        f".q{{display:grid;grid-template-columns:repeat({across},1fr);gap:{g.n(6, 18)}px;padding:12px}}"
        ".c{background:var(--card);border:1px solid var(--bd);border-radius:6px;overflow:hidden;min-width:0}"
        ".k{position:absolute;top:8px;inset-inline-start:8px;background:#d32f2f;color:#fff;font-style:normal;"
        "font-size:12px;padding:1px 6px}.h{padding:12px 16px;gap:14px;border-bottom:1px solid var(--bd)}"
        ".i{border:1px solid var(--bd);border-radius:20px;padding:6px 14px}",
        f'<div class="r h">{g.logo(30)}<b>{g.words(1)}</b><div class="g i m">{g.words(2)}</div>'
        f'{g.icon()}{g.icon()}</div><div class="q">{g.rows(g.fill(height + 70, across), item)}</div>',
    )


@layout("train", "icons", "phone")
def home_screen(g: Gen) -> str:
    size = g.n(46, 64)
    across = g.n(3, 5)

    def app() -> str:
        tile = f"width:{size}px;height:{size}px;background:{g.colour()};border-radius:{size // 4}px"
        return f'<div class="a"><div class="t" style="{tile}">{g.icon(size * 0.55, "#fff")}</div>{g.words(1)}</div>'

    wall = f"linear-gradient({g.n(0, 360)}deg,{g.colour(35)},{g.colour(60)},{g.colour(45)})"
    if g.chance(0.4):
        wall = g.colour(g.n(20, 80))
    return g.page(
        f"body{{background:{wall};color:#fff;font-size:11px}}.q{{display:grid;grid-template-columns:repeat({across}"
        ",1fr);"
        "row-gap:20px;padding:24px 10px}.a{text-align:center}.t{display:flex;align-items:center;justify-content:center;"
        "margin:0 auto 4px}.d{position:absolute;bottom:12px;left:12px;right:12px;background:#fff4;border-radius:24px}",
        f'{status_bar(g)}<div class="q">{g.rows(across * g.n(3, max(4, g.h // (size + 40) - 2)), app)}</div>'
        f'<div class="q d">{g.rows(across, app)}</div>',
    )


@layout("train", "map", "any")
def map_blocks(g: Gen) -> str:
    step_x, step_y, road = g.n(50, 140), g.n(40, 110), g.n(6, 16)
    land, street = ("#20262e", "#3a4453") if g.dark else (g.pick("#eceae4", "#f2efe9", "#e9eef0"), "#fff")
    parts = [f'<rect width="{g.w}" height="{g.h}" fill="{land}"/>']
    for x in range(0, g.w, step_x):
        for y in range(0, g.h, step_y):
            if g.chance(0.12):
                fill = g.pick("#bfe0b0", "#a9d3ee", "#e3d8c8") if not g.dark else g.pick("#24402c", "#1d3a52")
                parts.append(f'<rect x="{x}" y="{y}" width="{step_x}" height="{step_y}" fill="{fill}"/>')
            elif g.chance(0.5):
                houses = (
                    f'<path d="M{x + road} {y + road}h{step_x // 3}v{step_y // 3}h-{step_x // 3}zM{x + step_x // 2} '
                )
                parts.append(f'{houses}{y + road}h{step_x // 4}v{step_y // 2}h-{step_x // 4}z" fill="{g.bd}"/>')
    grid = "".join(f"M{x} 0V{g.h}" for x in range(0, g.w, step_x)) + "".join(
        f"M0 {y}H{g.w}" for y in range(0, g.h, step_y)
    )
    parts.append(f'<path d="{grid}" stroke="{street}" stroke-width="{road}"/>')
    wide = f"M0 {g.n(0, g.h)}Q{g.w // 2} {g.n(0, g.h)} {g.w} {g.n(0, g.h)}"
    parts.append(f'<path d="{wide}" stroke="#f0c75e" stroke-width="{road * 1.6}" fill="none"/>')
    for _ in range(g.n(3, 12)):
        x, y = g.n(0, g.w // step_x) * step_x, g.n(0, g.h // step_y) * step_y
        parts.append(f'<text x="{x + 4}" y="{y + 4}" font-size="11" fill="{g.fg}">{g.words(1, 2)}</text>')
    pin = f'<path d="M0 0c-3-9-10-13-10-21a10 10 0 0120 0c0 8-7 12-10 21z" fill="{g.colour()}" stroke="#fff"/>'
    parts += [f'<g transform="translate({g.n(20, g.w)} {g.n(30, g.h)})">{pin}</g>' for _ in range(g.n(2, 14))]
    return g.page(
        ".s{position:absolute;top:14px;left:14px;width:min(320px,80%);background:var(--card);padding:10px 14px;"
        "border-radius:8px;box-shadow:0 1px 5px #0005}",
        f'<svg width="{g.w}" height="{g.h}">{"".join(parts)}</svg><div class="s r"><span class="g m">'
        f"{g.words(2)}</span>{g.icon()}</div>",
    )


@layout("train", "dashboard", "desktop")
def dashboard_cards(g: Gen) -> str:
    across = g.n(3, 5)
    tile = g.rows(
        across,
        lambda: (
            f'<div class="c">{g.icon(22, g.ac)}<div class="m">{g.words(1, 2)}</div><b style="font-size:1.7em">'
            f"{g.money()}</b> <small>+{g.n(0, 30)} %</small></div>"
        ),
    )
    wide = (g.w - 56) // 2
    charts = [
        lambda: lines_svg(g, wide - 30, 170),
        lambda: bars_svg(g, wide - 30, 170),
        lambda: heat_svg(g, max(4, (wide - 30) // 22), 7, 22),
        lambda: pie_svg(g, 160) + pie_svg(g, 160),
    ]
    body = "".join(f'<div class="c"><h3>{g.words(1, 3)}</h3>{g.rng.choice(charts)()}</div>' for _ in range(6))
    return g.page(
        f"body{{padding:16px}}.q{{display:grid;gap:16px;margin-bottom:16px;grid-template-columns:repeat({across},"
        "1fr)}.c{background:var(--card);border:1px solid var(--bd);border-radius:8px;padding:14px;overflow:hidden}"
        ".w{grid-template-columns:1fr 1fr}",
        f'<h2 style="margin-bottom:12px">{g.words(1, 3)}</h2><div class="q">{tile}</div><div class="q w">{body}</div>',
    )


@layout("train", "chart", "any")
def chart_page(g: Gen) -> str:
    chart = bars_svg(g, g.w - 60, g.h * 0.6) if g.chance(0.5) else lines_svg(g, g.w - 60, g.h * 0.6)
    legend = g.many(g.n(2, 5), lambda: f'<span style="color:{g.colour()}">■</span> {g.words(1)} &nbsp; ')
    return g.page(
        "body{padding:30px}h1{font-size:1.5em}",
        f'<h1>{g.words(2, 6)}</h1><p class="m">{g.words(4, 9)}</p><br>{chart}<p>{legend}</p><p class="m">'
        f"{g.text(1, 2)}</p>",
    )


@layout("train", "code", "any")
def code_editor(g: Gen) -> str:
    inks = [g.colour(70 if g.dark else 38) for _ in range(5)]
    depth, lines = 0, []
    for number in range(1, g.fill(19) + 1):
        depth = max(0, min(5, depth + g.n(-1, 1)))
        head = g.pick("if", "for", "return", "const", "let", "def", "while", "import")
        tail = g.pick("();", " {", "},", ");", "[i] = 0;", " == null) {", "")
        words = [w.lower() for w in g.words(1, 5).split()]
        line = f'<span style="color:{inks[0]}">{head}</span> ' + "_".join(words)
        line += f' = <span style="color:{inks[1]}">"{g.word()}"</span>{tail}' if g.chance(0.5) else tail
        if g.chance(0.12):
            line = f'<span style="color:{inks[2]}">// {g.words(3, 8)}</span>'
        lines.append(f'<div><span class="n">{number}</span>{"    " * depth}{"" if g.chance(0.1) else line}</div>')
    files = g.rows(g.n(6, 24), lambda: f'<div class="r f">{g.icon(14)}&nbsp;{g.word()}.{g.pick("py", "ts", "c")}</div>')
    pane = f'<div class="p">{files}</div>' if g.w > 640 else ""
    return g.page(
        "body{display:flex}.p{width:190px;background:var(--card);padding:8px}.f{padding:2px 6px;font-size:13px}"
        "pre{font:13px/19px var(--mono),monospace;direction:ltr}.n{display:inline-block;width:44px;"
        "color:var(--mu);text-align:right;margin-right:14px}",
        f"{pane}<pre>{''.join(lines)}</pre>",
    )


@layout("train", "calendar", "any")
def month_calendar(g: Gen) -> str:
    height = (g.h - 80) / g.n(5, 6)
    label = f'<div class="v e" style="background:{g.ac}">{g.words(1, 2)}</div>'

    def day(number: int) -> str:
        events = "".join(
            label if g.chance(0.5) else f'<div class="v e" style="background:{g.colour()}">{g.words(1, 2)}</div>'
            for _ in range(g.n(0, 2) if g.chance(0.5) else 0)
        )
        return f'<div class="d"><span class="m">{number % 31 + 1}</span>{events}</div>'

    start = g.n(0, 30)
    names = "".join(f'<b class="m">{g.word()[:3]}</b>' for _ in range(7))
    return g.page(
        f".q{{display:grid;grid-template-columns:repeat(7,1fr)}}.d{{height:{height:.0f}px;border:.5px solid var(--bd);"
        "padding:4px;overflow:hidden}.v{color:#fff;font-size:11px;border-radius:3px;padding:0 4px;margin-top:3px}"
        ".q b{padding:4px}",
        f'<h2 style="padding:10px 14px">{g.words(1)} {g.n(2015, 2027)}</h2><div class="q">{names}</div><div class="q">'
        f"{''.join(day(start + at) for at in range(42))}</div>",
    )


@layout("train", "news", "desktop")
def newspaper(g: Gen) -> str:
    columns = g.n(3, 5)

    def story() -> str:
        image = f'<div style="height:{g.n(90, 160)}px;margin:6px 0">{g.picture()}</div>' if g.chance(0.35) else ""
        return f"<h3>{g.words(4, 9)}</h3>{image}<p><b>{g.words(1)}.</b> {g.text(3, 8)}</p><hr>"

    return g.page(
        "body{font-family:var(--serif),serif;padding:18px}h1{text-align:center;font-size:2.6em;border-bottom:3px "
        f"double var(--fg);margin-bottom:12px}}.q{{columns:{columns};column-gap:20px;column-rule:1px solid var(--bd);"
        f"height:{g.h - 110}px;text-align:justify}}hr{{margin:10px 0;border:0;border-top:1px solid var(--bd)}}",
        f'<h1>{g.words(2, 3)}</h1><div class="q">{g.many(16, story)}</div>',
    )


@layout("train", "settings", "phone")
def settings_switches(g: Gen) -> str:
    on = f'<i class="w" style="background:{g.ac}"><u style="inset-inline-end:2px"></u></i>'
    off = '<i class="w"><u style="inset-inline-start:2px"></u></i>'

    def row() -> str:
        tile = f'<span class="t" style="background:{g.colour()}">{g.icon(16, "#fff")}</span>'
        end = on if g.chance(0.35) else off if g.chance(0.5) else '<span class="m">›</span>'
        return f'<div class="r c">{tile}<span class="g e">{g.words(1, 3)}</span>{end}</div>'

    return g.page(
        "body{background:var(--card)}.k{background:var(--bg);border-radius:10px;margin:0 14px 20px}.c{gap:12px;"
        "padding:0 12px;height:44px;border-bottom:1px solid var(--bd)}.t{width:28px;height:28px;border-radius:7px;"
        "display:grid;place-items:center}.w{width:42px;height:25px;border-radius:14px;background:#9996;"
        "position:relative}u{position:absolute;top:2px;width:21px;height:21px;border-radius:50%;background:#fff}"
        "h1{padding:14px}",
        f"{status_bar(g)}<h1>{g.words(1)}</h1>"
        f'{g.many(5, lambda: f"""<div class="k">{g.rows(g.n(1, 6), row)}</div>""")}',
    )


@layout("train", "slide", "slide")
def slide_bullets(g: Gen) -> str:
    size = g.w / 34
    points = g.many(g.n(3, 6), lambda: f"<li>{g.words(4, 10)}</li>")
    side = f'<div style="width:38%;height:60%">{g.picture()}</div>' if g.chance(0.5) else ""
    return g.page(
        f"body{{font-size:{size:.0f}px;padding:5%}}h1{{color:var(--ac);border-bottom:4px solid;margin-bottom:5%}}"
        "li{margin:.5em 1.2em}.f{position:absolute;bottom:0;left:0;right:0;height:7%;background:var(--ac);"
        "color:#fff;padding:0 3%;font-size:.5em}",
        f'<h1>{g.words(2, 5)}</h1><div class="r" style="height:70%"><ul class="g">{points}</ul>{side}</div><div '
        f'class="r f"><span class="g">{g.company()}</span>{g.n(1, 60)}</div>',
    )


@layout("train", "gallery", "any")
def photo_squares(g: Gen) -> str:
    across, gap = max(3, g.w // g.n(90, 220)), g.n(0, 10)
    side = (g.w - gap * (across + 1)) / across
    play = f'<span class="v">{g.icon(14, "#fff")} {g.time()}</span>'
    tile = f"width:{side:.1f}px;height:{side:.1f}px;position:relative;overflow:hidden"
    if g.chance(0.4):
        tile += ";border-radius:8px"
    cells = g.rows(
        g.fill(side + gap, across), lambda: f'<div style="{tile}">{g.picture()}{play if g.chance(0.2) else ""}</div>'
    )
    return g.page(
        f".q{{display:flex;flex-wrap:wrap;gap:{gap}px;padding:{gap}px}}.v{{position:absolute;inset-inline-end:4px;"
        "bottom:4px;background:#0009;color:#fff;font-size:11px;padding:0 5px}",
        f'<h3 style="padding:12px">{g.words(1, 2)}</h3><div class="q">{cells}</div>',
    )


@layout("train", "keys", "phone")
def calculator(g: Gen) -> str:
    labels = list("C±%÷789×456−123+0,=") if g.chance(0.5) else list("123456789*0#")
    across = 4 if len(labels) > 12 else 3
    high = max(56, (g.h - 260) // (6 if across == 4 else 5))
    keys = "".join(
        f'<div class="k" style="{f"background:{g.ac};color:#fff" if at % across == 3 else ""}'
        f'{";grid-column:span 2" if wide else ""}">'
        f"{label}</div>"
        for at, label in enumerate(labels)
        for wide in [across == 4 and label == "0"]
    )
    history = g.rows(4, lambda: f'<div class="m" style="text-align:end">{g.money()} + {g.money()}</div>')
    return g.page(
        f".q{{position:absolute;left:10px;right:10px;bottom:14px;display:grid;grid-template-columns:repeat({across},"
        f"1fr);gap:{g.n(4, 14)}px}}.k{{height:{high}px;border-radius:{g.pick('6px', '50px', '14px')};"
        "background:var(--card);border:1px solid var(--bd);font-size:1.7em;display:grid;place-items:center}"
        ".n{font-size:3em;text-align:end;padding:10px 16px}",
        f'{status_bar(g)}<div style="padding:0 16px">{history}</div><div class="n">{g.money(99999)}</div><div '
        f'class="q">{keys}</div>',
    )


# ---- Screens for testing ---------------------------------------------------------------------------------------------


@layout("test", "chat-list", "any")
def contact_tiles(g: Gen) -> str:
    across = max(1, g.w // 320)
    dot = '<i style="width:10px;height:10px;border-radius:5px;background:#3ba55d;display:inline-block"></i>'

    def tile() -> str:
        return (
            f'<div class="c"><div class="r" style="gap:10px">{g.avatar(44)}<div class="g"><div class="e">'
            f'{g.name()}</div><small class="m">{dot if g.chance(0.5) else "○"} {g.words(1)}</small></div>'
            f'{g.icon(18, g.ac)}</div><p class="e m">{g.words(4, 9)}</p></div>'
        )

    tabs = g.many(g.n(2, 4), lambda: f'<span style="padding:10px 14px">{g.words(1)}</span>')
    return g.page(
        f".q{{display:grid;grid-template-columns:repeat({across},1fr);gap:10px;padding:10px}}"
        ".c{background:var(--card);border-radius:12px;padding:12px;box-shadow:0 1px 3px #0003;min-width:0}.c "
        "p{margin-top:6px;padding-top:6px;border-top:1px dashed var(--bd)}.t{border-bottom:2px solid var(--ac)}",
        f'<div class="r t">{tabs}</div><div class="q">{g.rows(g.fill(105, across), tile)}</div>',
    )


@layout("test", "chat", "any")
def team_channel(g: Gen) -> str:
    def post() -> str:
        line = f"<pre>{g.word()} --{g.word()} {g.n(1, 99)}</pre>" if g.chance(0.2) else f"<div>{g.text(1, 2)}</div>"
        mark = f'<span class="k">{g.icon(13, g.ac)} {g.n(1, 5)}</span>' if g.chance(0.4) else ""
        return (
            f'<div class="p">{g.avatar(38)}<div class="g"><b>{g.name()}</b> <small class="m">{g.time()}</small>'
            f"{line}{mark}</div></div>"
        )

    channels = g.rows(18, lambda: f'<div class="e" style="padding:4px 14px"># {g.word()}</div>')
    side = f'<div class="s"><h3 style="padding:14px">{g.company()}</h3>{channels}</div>' if g.w > 620 else ""
    return g.page(
        f"body{{display:flex}}.s{{width:200px;background:hsl({g.hue} 40% 18%);color:#dde;height:100%}}"
        ".p{display:flex;gap:10px;padding:8px 14px}pre{background:var(--card);border:1px solid var(--bd);"
        "padding:6px;font-family:var(--mono),monospace}.k{border:1px solid var(--bd);border-radius:10px;"
        "font-size:11px;padding:1px 7px}",
        f'{side}<div class="g">{g.rows(g.fill(66), post)}</div>',
    )


@layout("test", "mail", "any")
def mail_rows(g: Gen) -> str:
    star, box = g.icon(15, g.mu, 0), '<i style="width:13px;height:13px;border:1.5px solid #999;flex:none"></i>'

    def row() -> str:
        tag = f'<span style="background:{g.colour()};color:#fff;padding:0 5px;font-size:11px">{g.word()}</span>'
        return (
            f'<div class="r c" style="{"background:var(--card)" if g.chance(0.5) else "font-weight:700"}">{box}{star}'
            f'<span class="e" style="width:24%">{g.name()}</span><span class="g e">{tag if g.chance(0.3) else ""} '
            f"{g.words(3, 6)}"
            f' <span class="m">– {g.words(4, 12)}</span></span><small>{g.time()}</small></div>'
        )

    height = g.n(30, 48)
    return g.page(
        f".c{{gap:10px;padding:0 12px;height:{height}px;border-bottom:1px solid var(--bd)}}.h{{gap:16px;padding:12px}}"
        ".b{background:var(--ac);color:#fff;padding:8px 18px;border-radius:18px}",
        f'<div class="r h"><span class="b">{g.words(1)}</span>{"".join(g.icon(17) for _ in range(5))}<span class="g">'
        f"</span>{g.n(1, 50)}–{g.n(51, 99)}</div>{g.rows(g.fill(height), row)}",
    )


@layout("test", "table", "any")
def spreadsheet(g: Gen) -> str:
    width, height = g.n(60, 120), g.n(18, 28)
    columns = g.w // width + 1
    kinds: list[Callable[[], str]] = [
        g.rng.choice([g.money, g.date, g.word, lambda: str(g.n(0, 9)), lambda: "", lambda: "0"]) for _ in range(columns)
    ]
    head = "".join(f"<th>{chr(65 + at % 26)}</th>" for at in range(columns))
    rows = [
        f"<th>{number}</th>" + "".join(f"<td>{kind() if g.chance(0.85) else ''}</td>" for kind in kinds)
        for number in range(1, math.ceil(g.h / height) + 1)
    ]
    if g.chance(0.4):
        rows = [rows[at % 3] for at in range(len(rows))]
    return g.page(
        f"table{{border-collapse:collapse;table-layout:fixed;width:{columns * width}px}}td,th{{border:1px solid "
        f"var(--bd);height:{height}px;font-size:12px;padding:0 4px;overflow:hidden;white-space:nowrap;text-align:end}}"
        "th{background:var(--card);color:var(--mu);text-align:center;font-weight:400}th:first-child{width:36px}"
        ".b{padding:6px;gap:12px}",
        f'<div class="r b">{"".join(g.icon(18) for _ in range(10))}</div><div class="r b" style="border:1px solid '
        f'var(--bd)"><i>fx</i>=SUM(B2:B{g.n(5, 60)})</div><table><tr><th></th>{head}</tr>'
        + "".join(f"<tr>{row}</tr>" for row in rows)
        + "</table>",
    )


@layout("test", "shop", "any")
def shop_list(g: Gen) -> str:
    size = g.n(90, 160)

    def item() -> str:
        full = g.n(2, 5)
        return (
            f'<div class="c"><div style="width:{size}px;height:{size}px;flex:none">{g.picture()}</div><div class="g">'
            f'<h3>{g.words(3, 7)}</h3><div style="color:#e59819">{"★" * full}{"☆" * (5 - full)} <span class="m">'
            f'({g.n(1, 900)})</span></div><p class="m">{g.words(5, 14)}</p><b style="font-size:1.3em">'
            f'${g.money(400)}</b></div><span class="k">'
            f"{g.icon(16, '#fff', 0)} {lead}</span></div>"
        )

    lead = g.words(1)
    ticks = g.rows(
        14, lambda: f'<div style="padding:4px">☐ {g.words(1, 2)} <span class="m">({g.n(1, 50)})</span></div>'
    )
    pane = f'<div class="s"><h3>{g.words(1)}</h3>{ticks}</div>' if g.w > 700 else ""
    return g.page(
        ".c{display:flex;gap:16px;padding:14px;border-bottom:1px solid var(--bd)}.k{align-self:end;"
        "background:var(--ac);color:#fff;padding:8px 12px;border-radius:4px;white-space:nowrap}.s{width:200px;"
        "padding:14px;background:var(--card)}body{display:flex}",
        f'{pane}<div class="g">{g.rows(g.fill(size + 28), item)}</div>',
    )


@layout("test", "icons", "any")
def file_manager(g: Gen) -> str:
    size, cell = g.n(40, 72), g.n(92, 130)
    folder = (
        f'<svg width="{size}" height="{size}" viewBox="0 0 48 48"><path d="M4 10h15l4 5h21v25H4z" fill="{g.ac}"/><path '
    )
    folder += 'd="M4 19h40v21H4z" fill="#fff5"/></svg>'

    def entry() -> str:
        sheet = (
            f'<path d="M10 3h20l9 9v33H10z" fill="#fff" stroke="#889"/><path d="M16 30h17v9H16z" fill="{g.colour()}"/>'
        )
        paper = f'<svg width="{size}" height="{size}" viewBox="0 0 48 48">{sheet}</svg>'
        return f'<div class="a">{folder if g.chance(0.5) else paper}<div class="e">{g.word()}_{g.n(1, 20)}</div></div>'

    places = g.many(9, lambda: f'<div class="r" style="gap:8px;padding:6px 14px">{g.icon(16)}{g.words(1)}</div>')
    pane = f'<div style="width:180px;height:100%;background:var(--card)">{places}</div>' if g.w > 600 else ""
    return g.page(
        f"body{{display:flex}}.q{{display:grid;grid-template-columns:repeat(auto-fill,{cell}px);align-content:start;"
        "row-gap:14px;padding:14px}.a{text-align:center;font-size:12px;padding:0 6px;overflow:hidden}"
        ".b{padding:8px 14px;border-bottom:1px solid var(--bd);gap:12px}",
        f'{pane}<div class="g"><div class="r b">‹ › <span class="g">/{g.word()}/{g.word()}</span>{g.icon(16)}</div>'
        f'<div class="q">{g.rows(g.fill(size + 36, max(1, g.w // cell)), entry)}</div></div>',
    )


@layout("test", "map", "any")
def map_route(g: Gen) -> str:
    land = "#1a1d24" if g.dark else g.pick("#f6f3ec", "#e8ecdf", "#f4f4f6")
    cx, cy = g.n(0, g.w), g.n(0, g.h)
    parts = [f'<rect width="{g.w}" height="{g.h}" fill="{land}"/>']
    for _ in range(g.n(3, 9)):
        x, y, r = float(g.n(0, g.w)), float(g.n(0, g.h)), g.n(30, 160)
        fill = g.pick("#cfe8bf", "#b5dcef") if not g.dark else g.pick("#1e3325", "#16303f")
        parts.append(f'<ellipse cx="{x}" cy="{y}" rx="{r}" ry="{r * 0.6}" fill="{fill}"/>')
    road = "#39404d" if g.dark else "#fff"
    for at in range(rays := g.n(7, 16)):
        turn = at / rays * 2 * math.pi + g.rng.uniform(-0.1, 0.1)
        x, y = cx + 2000 * math.cos(turn), cy + 2000 * math.sin(turn)
        parts.append(f'<path d="M{cx} {cy}L{x:.0f} {y:.0f}" stroke="{g.bd}" stroke-width="9"/>')
        parts.append(f'<path d="M{cx} {cy}L{x:.0f} {y:.0f}" stroke="{road}" stroke-width="7"/>')
    for r in range(60, 1600, g.n(60, 130)):
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="{r}" fill="none" stroke="{road}" stroke-width="5"/>')
    bends = " ".join(f"T{g.n(0, g.w)} {g.n(0, g.h)}" for _ in range(g.n(2, 5)))
    parts.append(
        f'<path d="M{cx} {cy}Q{g.n(0, g.w)} {g.n(0, g.h)} {g.n(0, g.w)} {g.n(0, g.h)}{bends}" stroke="{g.ac}" '
        'fill="none" stroke-width="6" opacity=".8"/>'
    )
    for _ in range(g.n(5, 20)):
        x, y = g.n(0, g.w), g.n(0, g.h)
        parts.append(f'<circle cx="{x}" cy="{y}" r="8" fill="{g.ac}" stroke="#fff" stroke-width="2"/>')
        parts.append(f'<text x="{x + 11}" y="{y + 4}" font-size="11" fill="{g.fg}">{g.words(1)}</text>')
    steps = g.rows(
        8,
        lambda: f'<div class="r c">{g.icon(20, g.ac)}<span class="g">{g.words(2, 5)}</span>{g.n(1, 90) / 10} km</div>',
    )
    where = "left:0;top:0;bottom:0;width:280px" if g.w > 640 else "left:0;right:0;bottom:0;height:35%;overflow:hidden"
    return g.page(
        f".s{{position:absolute;{where};background:var(--bg);box-shadow:0 0 8px #0006}}.c{{gap:10px;padding:12px;"
        "border-bottom:1px solid var(--bd)}",
        f'<svg width="{g.w}" height="{g.h}">{"".join(parts)}</svg><div class="s"><h3 style="padding:12px">'
        f"{g.n(5, 90)} min</h3>{steps}</div>",
    )


@layout("test", "dashboard", "desktop")
def dashboard_dark_rail(g: Gen) -> str:
    rail = "".join(f'<div style="padding:14px 18px">{g.icon(20)}</div>' for _ in range(8))
    inner = g.w - 56 - 48
    meters = g.rows(
        g.n(3, 6),
        lambda: (
            f'<div class="c g" style="text-align:center">{pie_svg(g, 90, hole=True)}<br><b>{g.n(1, 100)} %</b> '
            f"{g.word()}</div>"
        ),
    )
    cells, size = g.n(10, 30), g.n(10, 18)
    heat = (
        f'<canvas id="k" width="{cells * size}" height="{8 * size}"></canvas><script>const '
        f'c=document.getElementById("k").getContext("2d");let s={g.n(1, 9999)};for(let x=0;x<{cells};x++)for(let y=0;'
        f'y<8;y++){{s=(s*16807)%2147483647;c.fillStyle="hsl("+({g.hue}+s%90)+" 70% "+(25+s%5*12)+"%)";'
        f"c.fillRect(x*{size},y*{size},{size},{size})}}</script>"
    )
    return g.page(
        f".l{{position:absolute;left:0;top:0;bottom:0;width:56px;background:hsl({g.hue} 30% 16%);color:#cdd}}"
        ".p{margin-left:56px;padding:12px;display:flex;flex-direction:column;gap:12px}.c{background:var(--card);"
        "padding:12px}.w{display:flex;gap:12px}",
        f'<div class="l">{rail}</div><div class="p"><div class="c">{lines_svg(g, inner, g.h * 0.28, area=True)}</div>'
        f'<div class="w">{meters}</div><div class="w"><div class="c g">'
        f'{bars_svg(g, inner * 0.45, 200, lying=True)}</div><div class="c g">{heat}</div></div></div>',
    )


@layout("test", "chart", "any")
def chart_with_table(g: Gen) -> str:
    wide = g.w * 0.55
    chart = pie_svg(g, min(wide, g.h * 0.6), hole=True) if g.chance(0.4) else lines_svg(g, wide, g.h * 0.55, area=True)
    rows = g.many(g.n(4, 9), lambda: f"<tr><td>{g.words(1)}</td><td>{g.n(1, 99)} %</td></tr>")
    return g.page(
        "body{padding:22px}table{border-collapse:collapse;flex:1;align-self:start}td{border-bottom:1px solid "
        "var(--bd);padding:6px}h1{font:italic 1.6em var(--serif)}",
        f'<h1>{g.words(2, 6)}</h1><br><div class="r" style="gap:30px">{chart}<table>{rows}</table></div><br><p>'
        f"{g.text(2, 3)}</p>",
    )


@layout("test", "code", "any")
def terminal(g: Gen) -> str:
    user = f'<b style="color:#7ec16e">{g.word()}@{g.word()}</b>:<b style="color:#6ca0dc">~/{g.word()}</b>$'

    def block() -> str:
        kind = g.n(0, 3)
        if kind == 0:
            lines = [
                f"-rw-r--r-- 1 root root {g.n(1, 99999):>6} {g.date()} {g.word()}.{g.word()[:3]}"
                for _ in range(g.n(3, 9))
            ]
        elif kind == 1:
            lines = [
                f"[{'█' * (full := g.n(3, 30))}{'░' * (30 - full)}] {full * 100 // 30:>3}%" for _ in range(g.n(1, 5))
            ]
        elif kind == 2:
            same = f"{g.date()} {g.time()} INFO  {g.words(3, 6)}"
            lines = [
                same if g.chance(0.6) else f"{g.date()} {g.time()} WARN  {g.words(3, 6)}" for _ in range(g.n(3, 12))
            ]
        else:
            cells = [f"│ {g.word():<14}│{g.n(0, 999):>8} │" for _ in range(g.n(2, 5))]
            lines = ["┌" + "─" * 15 + "┬" + "─" * 9 + "┐", *cells, "└" + "─" * 15 + "┴" + "─" * 9 + "┘"]
        return f"{user} {g.word()} -{g.word()[:1]}\n" + "\n".join(lines) + "\n"

    back, ink = g.rng.choice(
        [("#101014", "#d6d6d6"), ("#002b36", "#93a1a1"), ("#fdf6e3", "#586e75"), ("#000", "#33d17a")]
    )
    return g.page(
        f"body{{background:{back};color:{ink}}}pre{{padding:10px;font:13px/17px var(--mono),monospace;direction:ltr}}",
        f"<pre>{g.rows(g.fill(110), block)}</pre>",
    )


@layout("test", "calendar", "desktop")
def week_calendar(g: Gen) -> str:
    hour = g.n(36, 60)
    same = f"<b>{g.words(1)}</b><br>{g.time()}"
    fills = [g.colour(80) for _ in range(g.n(1, 4))]

    def day() -> str:
        events = "".join(
            f'<div class="v" style="top:{g.n(0, g.h // hour) * hour}px;height:{g.n(1, 3) * hour // 2 - 2}px;background:'
            f'{g.pick(*fills)}">{same if g.chance(0.5) else g.words(1, 3)}</div>'
            for _ in range(g.n(0, 5))
        )
        return f'<div class="d g">{events}</div>'

    hours = "".join(f'<div style="height:{hour}px">{at:02}:00</div>' for at in range(6, 24))
    return g.page(
        "body{display:flex;flex-direction:column}.d{position:relative;border-inline-start:1px solid var(--bd);"
        f"background:repeating-linear-gradient(var(--bd) 0 1px,transparent 1px {hour}px)}}.v{{position:absolute;"
        "left:3px;right:8px;border-radius:4px;color:#222;font-size:11px;padding:2px 5px;overflow:hidden;"
        "border-inline-start:3px solid #0006}.h{padding:10px}",
        '<div class="r h" style="padding-inline-start:60px">'
        f"{g.many(7, lambda: f'<span class=g>{g.word()[:3]} {g.n(1, 28)}</span>')}"
        f'</div><div class="g" style="display:flex"><div class="m" style="width:52px;font-size:11px">{hours}</div>'
        f"{g.many(7, day)}</div>",
    )


@layout("test", "news", "any")
def magazine(g: Gen) -> str:
    across = max(1, g.w // 300)

    def card() -> str:
        return (
            f'<div class="c"><div style="height:130px">{g.picture()}</div><small style="color:var(--ac)">'
            f"{g.words(1).upper()}</small><h3>{g.words(5, 9)}</h3><p>{g.text(1, 2)}</p></div>"
        )

    return g.page(
        f".q{{display:grid;grid-template-columns:repeat({across},1fr);gap:22px;padding:22px}}.c{{min-width:0}}"
        ".h{height:240px;position:relative}.h h1{position:absolute;bottom:0;left:0;right:0;background:#000a;"
        "color:#fff;padding:12px 22px}.n{gap:24px;padding:12px 22px;background:var(--fg);color:var(--bg)}",
        f'<div class="r n">{g.logo(24)}{g.many(4, lambda: f"<span>{g.words(1)}</span>")}</div><div class="h">'
        f'{g.picture()}<h1>{g.words(4, 8)}</h1></div><div class="q">{g.rows(g.fill(300, across), card)}</div>',
    )


@layout("test", "settings", "desktop")
def settings_panel(g: Gen) -> str:
    def field() -> str:
        kind = g.n(0, 3)
        if kind == 0:
            body = f'<div class="i">{g.words(1, 2)} <span style="float:inline-end">▾</span></div>'
        elif kind == 1:
            body = f'<div class="t"><i style="width:{g.n(1, 9) * 10}%"></i></div>'
        elif kind == 2:
            body = "".join(f"<span>{'◉' if at == 1 else '○'} {g.words(1)} &emsp;</span>" for at in range(3))
        else:
            body = f"{'☑' if g.chance(0.5) else '☐'} {g.words(2, 6)}"
        return f'<div class="f"><label>{g.words(1, 3)}</label><div class="g">{body}</div></div>'

    menu = g.rows(12, lambda: f'<div class="r" style="gap:10px;padding:9px 16px">{g.icon(17)}{g.words(1)}</div>')
    return g.page(
        "body{display:flex}.s{width:210px;background:var(--card);border-inline-end:1px solid var(--bd)}"
        ".f{display:flex;align-items:center;padding:10px 0}.f label{width:34%}.i{border:1px solid var(--bd);"
        "padding:6px 10px;border-radius:5px}.t{height:5px;background:var(--bd);border-radius:3px}.t "
        "i{display:block;height:5px;background:var(--ac)}",
        f'<div class="s">{menu}</div><div class="g" style="padding:24px"><h2>{g.words(1, 3)}</h2><hr>'
        f"{g.rows(g.fill(52), field)}</div>",
    )


@layout("test", "slide", "slide")
def slide_boxes(g: Gen) -> str:
    size = g.w / 44
    boxes = g.rows(
        g.n(3, 5),
        lambda: f'<div class="c"><div>{g.icon(size * 2, g.ac)}</div><b>{g.words(1)}</b><p>{g.words(4, 9)}</p></div>',
    )
    below = lines_svg(g, g.w * 0.84, g.h * 0.28, area=True) if g.chance(0.5) else f"<p>{g.text(2, 3)}</p>"
    return g.page(
        f"body{{font-size:{size:.0f}px;padding:0 8%;background:linear-gradient(120deg,var(--bg),var(--card))}}"
        "h1{text-align:center;padding:4% 0}.q{display:flex;gap:3%;margin-bottom:4%}.c{flex:1;border-top:5px "
        "solid var(--ac);padding:2%;background:#8881}",
        f'<h1>{g.words(2, 5)}</h1><div class="q">{boxes}</div>{below}',
    )


@layout("test", "gallery", "any")
def albums(g: Gen) -> str:
    columns = max(2, g.w // g.n(150, 260))

    def card() -> str:
        return (
            f'<div class="c"><div style="height:{g.n(5, 12) * 20}px">{g.picture()}</div><div class="r" '
            f'style="padding:8px;gap:6px"><b class="g e">{g.words(1, 2)}</b>{g.icon(15, g.ac)}{g.n(1, 99)}</div></div>'
        )

    return g.page(
        f".q{{columns:{columns};column-gap:12px;padding:12px}}.c{{break-inside:avoid;background:var(--card);"
        "border-radius:10px;"
        "overflow:hidden;margin-bottom:12px;box-shadow:0 1px 4px #0004}.h{gap:10px;padding:12px}",
        f'<div class="r h">{g.avatar(32)}<h2 class="g">{g.words(1, 3)}</h2>{g.icon()}</div><div class="q">'
        f"{g.rows(g.fill(190, columns), card)}</div>",
    )


@layout("test", "keys", "any")
def screen_keyboard(g: Gen) -> str:
    letters = "".join(dict.fromkeys("".join(g.lexicon).lower()))[:28]
    third = math.ceil(len(letters) / 3)
    lines = [letters[:third], letters[third : 2 * third], letters[2 * third :]]
    if g.chance(0.5):
        lines.insert(0, "1234567890")
    high = g.n(38, 52)
    keys = "".join(f'<div class="l">{"".join(f"<b>{sign}</b>" for sign in line)}</div>' for line in lines)
    last = (
        f'<div class="l"><b>{g.icon(16)}</b><b>,</b><b style="flex:5">{g.word()}</b><b>.</b><b>{g.icon(16)}</b></div>'
    )
    return g.page(
        ".z{position:absolute;left:0;right:0;bottom:0;background:var(--bd);padding:8px 4px}.l{display:flex;"
        f"justify-content:center}}.l b{{flex:0 1 {g.n(30, 90)}px;height:{high}px;margin:4px 3px;"
        "background:var(--card);border-radius:5px;box-shadow:0 1px 0 #0006;display:grid;place-items:center;"
        "font-weight:400;font-size:1.2em}.l b:only-child{flex:5}",
        f'<div style="padding:16px"><h2>{g.words(1, 3)}</h2><br>'
        f'{g.many(g.n(1, 6), lambda: f"<p>{g.text(1, 2)}</p>")}</div><div class="z">{keys}{last}</div>',
    )
