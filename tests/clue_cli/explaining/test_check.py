"""The check of a generated text: what is true passes, and lies of every kind do not."""

from __future__ import annotations

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from clue_cli.explaining.check import LONGEST, refusals
from clue_cli.explaining.claims import fits
from clue_cli.explaining.given import Box, given
from clue_cli.records import Finding, Origin
from tests.clue_cli.explaining.told import HEIGHT, WIDTH, record, truth, undecided

FORGED, UNDECIDED = given(record(), None), given(undecided(), None)


@pytest.mark.parametrize("one", [record(), undecided()], ids=["forged", "inconclusive"])
def test_the_truth_passes(one):
    assert refusals(truth(one), given(one, None)) == []


@pytest.mark.parametrize(
    "text",
    [
        "The verdict is forged with a confidence of 93 %.",
        "The verdict is forged, with 93 percent confidence.",
        "The score is 0.91 and the threshold is 0.85.",
        "The score is 91 %, above the threshold of 84.6 %.",
        "There are two marked regions; together they cover 5.4 % of the picture.",
        "Region 1 covers 4.10 % of the picture and Region 2 covers 1.27 per cent.",
        "Region 1 has an area of 12,600 pixels.",
        "Region 1 has an area of 12 600 pixels.",
        "The first region lies in the upper-left corner, the second region in the bottom right.",
        "The second region is at (500, 400) and measures 80 x 60 pixels.",
        "The region spans x from 500 to 580.",
        "Region 2 lies between 400 and 460 pixels from the top.",
        "Regions 1 and 2 are marked.",
        "Both regions are small parts of the picture.",
        "Region 1 matches another place of the picture near the top: 93 % of it match.",
        "Of 53 untouched files as cameras wrote them 0.0 % were called forged by mistake.",
        "Among 193 untouched pictures from the web 1.0 % [0.1 %, 3.7 %] were called forged.",
        "The mean of the heatmap in region 2 is 0.66 and its peak is 0.74.",
        "This is not a proof of an edit.",
        "It does not prove that the picture was edited.",
        (
            "The tool gave the verdict forged with a score of 0.912, which is above the threshold of 0.846, and "
            "a confidence of 93%."
        ),
        "Two regions are marked, which together cover 5.37% of the picture.",
        (
            "Region 1, at the top left, spans x 40 to 170 and y 30 to 140 and covers 4.10% of the picture; its "
            "mean is 0.810 and its peak is 0.987."
        ),
        "Region 2, at the bottom right, is smaller and covers 1.27% of the picture, with a peak of 0.740.",
        "The first crop shows a street sign, and the second crop shows part of a car.",
        (
            "Region 1 matches another place in the picture with 93% likeness, so one may be a copy of the other, "
            "or both belong to a repeating pattern."
        ),
        (
            "Of 193 untouched pictures 1.0% were called forged, so the verdict should be treated as a lead and "
            "confirmed with a second method."
        ),
        "The marked regions carry traces like those that an edit leaves, but this is not proof.",
        "The verdict should be taken with caution.",
        "Of 53 made forgeries 35.9% were called forged, so many edits are missed.",
        "In region 1 there is a window with a blue frame, located in the upper left part of the picture.",
        "However, false alarms happen: of 53 untouched pictures, 0.0% were called forged.",
        "The heatmap values in region 2 are lower, with a mean of 0.66.",
        "The larger one, region 1, has an area of 12600 pixels.",
        "The picture, which is 640 x 480 pixels in size, shows a street with two people.",
        "A second method should be used before any conclusion is drawn.",
        "The finding supports an edit, but the result is no proof of an edit.",
        "The marked area is about 5% of the picture.",
        (
            "This means that the regions differ from the rest of the picture in ways that are rare in untouched "
            "pictures of this kind."
        ),
        "The score is well above the threshold.",
        "This suggests that these regions may have been edited.",
        "The confidence of 0.93 is an estimate for pictures like those of the calibration.",
        "**Region 2** shows a red car in front of a house.",
    ],
)
def test_true_sentences_pass(text):
    assert refusals(text, FORGED) == []


@pytest.mark.parametrize(
    "text",
    [
        "The score of 0.71 lies between the thresholds, so the verdict is inconclusive.",
        "The score is below the threshold of 0.846 and above the lower threshold of 0.64.",
        "It counts neither for nor against the picture.",
        "The tool cannot say whether the picture was edited.",
    ],
)
def test_true_sentences_about_an_inconclusive_record_pass(text):
    assert refusals(text, UNDECIDED) == []


WRONG_NUMBERS = [
    "The score is 0.92.",
    "The score is 0.846.",
    "The threshold is 0.912.",
    "The score is one.",
    "The score is 1.0.",
    "The score is ninety-nine percent.",
    "The confidence is 99 %.",
    "The confidence is 0.912.",
    "A 91.2 % confidence is given.",
    "The confidence is ninety-nine per cent.",
    "The confidence is 9\n9 %.",
    "The confidence is ９９ %.",
    "The confidence is ٩٩ percent.",
    "The confidence is 99\N{SUPERSCRIPT TWO} %.",
    "The confidence is 930 ‰ of it.",
    "The confidence is .99.",
    "The confidence is 0,99.",
    "The confidence is 1e2.",
    "The confidence is 99/100.",
    "The confidence is 99 out of 100.",
    "It is wrong in one in a thousand cases.",
    "The region covers 12 % of the picture.",
    "Region 1 covers 4 % and region 2 covers 4 % of the picture.",
    "Region 2 covers 4.10 % of the picture.",
    "The 2nd region covers 4.1 percent of the picture.",
    "The marked regions cover 0 % of the picture.",
    "They cover 100 % of the picture.",
    "The regions cover 0.05 % of the picture.",
    "They cover more than 5.4 % of the picture.",
    "The picture has 641 x 480 pixels.",
    "The picture has 480 x 640 pixels.",
    "Region 1 measures 130 x 60 pixels.",
    "Region 1 measures 80 by 60 pixels.",
    "Region 1 is at (500, 400).",
    "Region 1 spans x from 40 to 580.",
    "Region 1 spans x from 500 to 580.",
    "Region 1 has an area of 12,601 pixels.",
    "Region 1 has an area of 13 thousand pixels.",
    "Region 1 has an area of twelve thousand six hundred and one pixels.",
    "The picture was taken on 2024-05-01.",
    "It was taken at 10:30.",
    "Region 1 is -40 pixels from the border.",
    "Of 53 untouched pictures 9 % are called forged by mistake.",
    "Of 53 untouched pictures 1.9 % are called forged.",
    "Of 53 untouched pictures 35.9 % are called forged.",
    "0.0 % of untouched pictures are called forged.",
    "Its error rate is 0.0 %.",
    "The score is 640.",
    "The peak in region 2 is 0.987.",
    "It is twice as strong as usual.",
    "Its score is 3 times the threshold.",
    "The score is 0.91, i.e. XCIX of C.",
]
WRONG_REGIONS = [
    "Region 3 is marked.",
    "Regions 1 to 4 are marked.",
    "Regions 1, 2 and 3 are marked.",
    "Region three is marked.",
    "The third region is marked.",
    "The 21st region is marked.",
    "There are three regions in it.",
    "There are three clearly visible marked regions.",
    "There is one region in it.",
    "A single region is marked.",
    "The only marked region is a sign.",
    "There are at least 2 regions.",
    "There are more than 2 regions.",
    "There are several regions.",
    "There are a dozen regions.",
    "There are a hundred regions.",
    "The region lies in the centre of the picture.",
    "The region lies at the bottom left.",
    "Region 1 lies at the bottom of the picture.",
    "Region 1 is in the lower\nright corner.",
    "The second region is in the top left corner.",
    "Region 2 is in the middle.",
    "In the lower right, region 1 shows a face.",
    "The largest region is at the right edge.",
    "Region 1 lies above region 2 of the picture.",
    "Region 1 is next to the other region.",
    "Region 1 lies in the north.",
]
VAGUE = [
    "Half of the picture is marked.",
    "Three quarters of the picture are marked.",
    "A third of the picture is marked.",
    "Two-thirds of the image are marked.",
    "3/4 of the picture are marked.",
    "½ of the picture is marked.",
    "Most of the picture is marked.",
    "The majority of the picture is marked.",
    "Much of the image is marked.",
    "A large part of the picture is marked.",
    "A tiny part of the picture is marked.",
    "The whole picture is marked.",
    "The picture is entirely marked.",
    "Nearly all of it is marked.",
    "Everything in it is marked.",
    "Half of the untouched pictures are called forged.",
]
VERDICTS = [
    "The picture is authentic.",
    "The picture is AUTHENTIC.",
    "The picture is au\u00adthentic.",
    "The picture is authen-\ntic.",
    "The picture is authen\ntic.",
    "The picture is a u t h e n t i c.",
    "The picture is аuthentic.",
    "The picture is ａｕｔｈｅｎｔｉｃ.",
    "The picture is not authentic.",
    "It is a genuine photograph.",
    "It is a real photograph.",
    "It is unaltered.",
    "It is the original picture.",
    "It is an untouched picture.",
    "No signs of an edit were found in it.",
    "It is free of traces.",
    "It looks natural and consistent.",
    "This proves that the picture was edited.",
    "There is no doubt about it.",
    "It is certainly so.",
    "There can be no other explanation for this.",
    "This is clear proof.",
    "It must have been made later.",
    "The evidence is overwhelming.",
    "It is very likely so.",
    "The picture is fake.",
    "The picture was photoshopped.",
    "La imagen no tiene cambios y todo esta bien.",
    "Das Bild ist echt und wurde nicht bearbeitet.",
    "\u202eThe picture has 640 x 480 pixels.",
    "The score is <b>0.91</b>.",
]
PERSONS = [
    "The photographer inserted it.",
    "Someone changed the sign.",
    "It was done by a man in order to deceive.",
    "He edited the picture.",
    "This is fraud.",
    "It was edited deliberately.",
    "It was edited by John Smith.",
    "Smith edited the picture.",
    "The picture was edited in Photoshop.",
    "It comes from Canon.",
]
METHODS = [
    "Error level analysis shows it.",
    "The lighting of the region differs.",
    "The shadows are inconsistent.",
    "There are compression artifacts in the region.",
    "Its EXIF names another camera model.",
    "It was spliced into the picture.",
    "The object was removed from it by inpainting.",
    "It was generated by AI.",
    "It is a deepfake.",
    "The noise of the region differs.",
    "The thumbnail shows something else.",
    "The content credentials are missing for it.",
    "The edges are unnatural.",
]

FREELY_INVENTED = [
    "The verdict is that nothing is wrong with it.",
    "It is a picture as the camera took it.",
    "The picture has not been tampered with.",
    "Forged? No.",
    "The tool is wrong about it.",
    "This is a false alarm.",
    "The verdict is mistaken.",
    "You can rely on the picture.",
    "The picture can be relied on.",
    "It is what it seems to be.",
    "The regions are harmless.",
    "The result can be ignored.",
    "The case is closed.",
    "The tool found five regions, in fact.",
    "A handful of regions are marked.",
    "A trio of regions is marked.",
    "A pair of regions in the top right.",
    "The region on the right is a copy.",
    "There is a lot of evidence for it.",
    "The region lies in the far left and at the bottom.",
    "Region 1 takes up nearly a tenth of the picture.",
    "Its confidence is nearly total.",
    "The confidence is ninety three point five percent.",
    "The chances are nine in ten.",
    "The odds are 9:1.",
    "The odds are nine to one.",
    "Its score is a perfect ten.",
    "The confidence is XCIX percent.",
    "The peak of region 2 is point nine.",
    "The man in region 1 is a known thief.",
    "The woman stole it.",
    "Her face was changed.",
    "A politician did this.",
    "The region was put there by the newspaper.",
    "It was made by the government.",
    "The police made it.",
    "The picture shows a crime.",
    "Region 2 is a copy of region 1.",
    "The second one matches another place.",
    "The other region is at the top right.",
    "Region 1 is located on the right half of the picture.",
    "The bigger region is on the right.",
    "The smaller region lies at the top.",
    "Neither region is marked.",
    "No region is marked.",
    "There are no regions.",
    "The region count is 7.",
    "It has zero regions.",
    "Five of them are marked.",
    "All five are marked.",
    "The five are marked.",
    "There is a fifth of them.",
    "It is marked in a dozen places.",
    "It is forged, with a certainty of 93 %.",
    "It has been 100% forged.",
    "It was taken in the year 2 of the war.",
    "The number of marked regions is three.",
    "Regions: 3.",
    "The marked pixels number 16,000.",
    "16,501 pixels are marked.",
    "The picture measures 640 by 481 pixels.",
    "The region measures 130 wide and 60 high.",
    "The region is 130 pixels wide and 60 pixels high.",
    "Region 1 is 80 pixels wide.",
    "Its width is 81 pixels.",
    "The mean score of the region is 0.987.",
    "The threshold was passed by 0.2.",
    "The score exceeds the threshold by 6 %.",
    "Of 140 untouched pictures 0.0% were called forged.",
    "None of 193 untouched pictures were called forged.",
    "Of 193 untouched pictures none were called forged.",
    "Few untouched pictures are called forged.",
    "It hardly ever errs with the pictures.",
    "The tool never errs.",
    "The tool is always right.",
    "The tool is accurate to 93 %.",
    "The error rate is 7 %.",
    "There is a 7 % chance that the verdict is wrong.",
]


@pytest.mark.parametrize(
    "text", [*FREELY_INVENTED, *WRONG_NUMBERS, *WRONG_REGIONS, *VAGUE, *VERDICTS, *PERSONS, *METHODS]
)
def test_a_lie_is_refused(text):
    assert refusals(text, FORGED), text
    assert refusals(f"{truth(record())} {text}", FORGED), "also behind a true paragraph"
    assert refusals(text, UNDECIDED), text


@pytest.mark.parametrize(
    "text",
    [
        "The picture is forged.",
        "The picture is not forged.",
        "The verdict is no evidence.",
        "The picture was manipulated.",
        "Region 1 was altered.",
        "It shows a forgery.",
        "The score of 0.712 is above the threshold of 0.846.",
        "The score is not below the threshold.",
        "The confidence is 0.93.",
        "The verdict is far from inconclusive.",
        "Region 1, with 4.1 % of the picture, is called forged.",
        (
            "The marked regions carry traces like those that an edit leaves and that are rare in untouched "
            "pictures of this kind."
        ),
    ],
)
def test_what_contradicts_an_inconclusive_record_is_refused(text):
    assert refusals(text, UNDECIDED)


@pytest.mark.parametrize(
    "text",
    [
        "The picture is not forged.",
        "The picture is hardly edited at all.",
        "The picture isn't forged.",
        "The verdict is inconclusive.",
        "There is no evidence of an edit.",
        "What was found is too weak to say anything.",
        "The score is below the threshold.",
        "The score of 0.912 is lower than the threshold of 0.846.",
        (
            "No such traces were found; many edited pictures get this verdict as well, so it does not show that "
            "the picture is untouched."
        ),
    ],
)
def test_what_contradicts_a_forged_record_is_refused(text):
    assert refusals(text, FORGED)


def test_a_sentence_says_what_the_picture_shows_or_keeps_to_the_vocabulary():
    assert refusals("Region 2 shows a lighthouse behind a harbour wall.", FORGED) == []
    assert "does not know: lighthouse" in refusals("Region 2 was a lighthouse.", FORGED)[0]
    assert "mixes" in refusals("Region 2 shows a lighthouse and was edited.", FORGED)[0]


def test_a_finding_may_be_named_where_it_was_found():
    text = "It was compressed twice, and the metadata have an edit history."
    found = [
        Finding(kind="compressed_twice", source=Origin.FILE, statement="."),
        Finding(kind="edit_history", source=Origin.METADATA, statement="."),
    ]
    known = given(record(findings=found), None)
    assert not [one for one in refusals(text, known) if "names" in one]
    assert len([one for one in refusals(text, FORGED) if "names" in one]) == 2


def test_a_copy_may_be_named_where_a_region_matches_a_place():
    text = "Region 1 may be a copy of another place."
    assert refusals(text, FORGED) == []
    assert refusals(text, given(record(findings=[]), None))


def test_texts_that_are_none_are_refused():
    assert refusals(" \n", FORGED) == ["it is empty"]
    assert refusals("The picture. " * LONGEST, FORGED) == [f"it has more than {LONGEST:,} characters"]
    assert refusals("12 640 480", FORGED)
    assert refusals("9" * LONGEST, FORGED) == ["it has a number of more than 15 digits"]


def test_a_reason_names_the_claim():
    assert refusals("Region 7 is marked.", FORGED) == [
        "“region 7”: there is no region 7 among those that were given"
    ]  # fmt: skip
    assert "99 %" in refusals("The confidence is 99 %.", FORGED)[0]


@drawn(st.floats(0, 1), st.integers(0, 4))
def test_a_score_passes_as_its_own_rounding_only(number, digits):
    text = f"The score is {number:.{digits}f}."
    assert (refusals(text, FORGED) == []) == (
        abs(round(number, digits) - 0.912) <= 0.5 * 10**-digits + 1e-9 and round(number, digits) not in (0, 1)
    )


@drawn(st.text(max_size=200))
def test_any_text_gets_an_answer(text):
    assert isinstance(refusals(text, FORGED), list)


@pytest.mark.parametrize(
    ("words", "box", "fit"),
    [
        ("top left", Box(0, 0, 10, 10), True),
        ("top right", Box(0, 0, 10, 10), False),
        ("upper-left corner", Box(0, 0, 10, 10), True),
        ("corner", Box(300, 0, 20, 20), False),
        ("centre", Box(300, 220, 40, 40), True),
        ("centre", Box(0, 0, WIDTH, HEIGHT), True),
        ("centre", Box(0, 0, 100, 100), False),
        ("middle left", Box(0, 220, 40, 40), True),
        ("bottom edge", Box(300, 440, 40, 40), True),
        ("edge", Box(300, 220, 40, 40), False),
    ],
)
def test_a_position_is_that_of_the_middle_of_a_box(words, box, fit):
    assert fits(words, box, WIDTH, HEIGHT) == fit
