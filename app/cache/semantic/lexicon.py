"""What the guards know of English: short tables, each a closed class of words or groups that mean the same.

A word that stands in no table is content: it must be in both prompts. So a missing entry costs a hit, and only a wrong
entry could cost a false one: groups are kept tight, and near opposites and words of several senses are left out.
"""

from __future__ import annotations

from collections.abc import Mapping


def _groups(table: str) -> dict[str, str]:
    """Each line a group; its first word stands for all."""
    lines = [line.split() for line in table.strip().splitlines()]
    return {word: line[0] for line in lines for word in line}


def _pairs(table: str) -> frozenset[tuple[str, str]]:
    halves = [pair.split("/") for pair in table.split()]
    return frozenset((one, other) for left, right in halves for one, other in ((left, right), (right, left)))


# Dropped: they carry grammar. Prepositions among them still tell who does what (`MARKERS`).
STOP_WORDS = frozenset(
    """a an the this that these those it its it's there here is are am be been being was were do does did done has have
    had having can could may might would should shall will must i me my mine we us our you your yours he she they them
    his her their theirs one's someone someone's somebody oneself myself yourself and or but so if then else as of to in
    on at by for from with into onto upon within via through about than also just really actually simply please kindly
    hi hello hey thanks thank ok okay well yes very quite any some such both own able possible ever rather while when
    where who whom whose which what why how s t re ve ll d m let's lets us instead because per using""".split()
)

# Requests that add nothing to the question they frame, longest first.
FRAMES = (
    r"i(?:'d| would) (?:like|love) (?:you )?to (?:know|understand|learn|ask)(?: about)?",
    r"i (?:want|need|am trying|'m trying) to (?:know|understand|find out)(?: about)?",
    r"(?:can|could|would|will) you (?:please |kindly )?(?:tell|show|explain to|give|help|write) me(?: (?:to|with))?",
    r"(?:can|could|would|will) you (?:please |kindly )?(?=[a-z]+ )",
    r"(?:please |kindly )?(?:tell|show|help) me(?: (?:about|to))?",
    r"(?:do you know|any idea|i wonder|i was wondering|i am wondering|i'm wondering)(?: if)?",
)

# What introduces a question, and which question it is.
QUESTIONS = (
    (r"how (?:many|much|long|often|far|old|tall|fast|big|large|high|deep|heavy|wide|late|early|soon|hard|likely)", ""),
    (r"(?:what(?:'s| is| are) the (?:way|ways|steps?|procedure|process|method) (?:to|of|for|by which))", "how"),
    (r"(?:explain|describe) (?:how|the way)|is there a way to|ways? to|steps? to", "how"),
    (r"how", "how"),
    (r"(?:what(?:'s| is) the reason|for what reason|what is the cause|why)", "why"),
    (r"(?:in|on|at|during) (?:what|which) (?:year|date|day|month|century|time)|what year|when", "when"),
    (r"(?:in|on|at) (?:what|which) (?:place|location|city|country)|where", "where"),
    (r"(?:by whom|who(?:'s|m|se)?)", "who"),
    (r"(?:explain|describe) why", "why"),
    (r"(?:what|which|explain|describe|define|what's)", "what"),
    (r"(?:can|could|may|am i able)", "can"),
    (r"should", "should"),
    (r"must", "must"),
    (r"(?:is|are|was|were|am|isn't|aren't)", "is"),
    (r"(?:do|does|did|has|have|had|don't|doesn't|didn't)", "do"),
    (r"(?:will|would|won't)", "will"),
)

# A marker rules the words up to the next one: "from MySQL to Postgres" is not "from Postgres to MySQL".
MARKERS = _groups(
    """to into onto towards
    from
    than
    by
    with
    for
    of
    over
    against
    instead
    between among
    on upon
    in within inside
    at
    as
    about regarding concerning
    via through using
    under
    before
    after
    if when while whenever
    not
    without
    except
    but
    because since"""
)

# Their presence counts, one for one.
NEGATIONS = frozenset(
    """not no never none neither nor nothing nobody nowhere cannot without lack lacks lacking except excluding unless
    hardly barely rarely seldom unable fail fails failed failing refuse avoid avoiding prevent""".split()
)

QUANTIFIERS = _groups(
    """all every each entire whole everything everyone
    only solely exclusively merely
    most
    few
    more additional extra further
    less fewer
    least
    enough
    half
    exactly precisely
    approximately roughly around
    always
    often frequently
    sometimes occasionally
    too
    almost nearly
    already
    again
    even"""
)

# Here the presence of one where the other text has its opposite tells them apart, whatever else agrees.
OPPOSITES = _pairs(
    """on/off in/out up/down before/after above/below with/without over/under into/out since/until inside/outside
    more/less more/fewer most/least all/none all/some all/only always/never enable/disable increase/decrease
    ascending/descending asc/desc min/max minimum/maximum buy/sell add/remove add/subtract start/stop start/end
    begin/end first/last open/close show/hide lock/unlock allow/block allow/deny accept/reject accept/decline
    encrypt/decrypt encode/decode compress/extract import/export upload/download push/pull push/pop read/write
    send/receive give/take lend/borrow win/lose gain/lose rise/fall early/late fast/slow high/low hot/cold warm/cool
    big/small large/small long/short tall/short old/new old/young good/bad best/worst better/worse positive/negative
    true/false yes/no legal/illegal safe/dangerous safe/unsafe correct/incorrect right/wrong right/left
    advantage/disadvantage pro/con benefit/drawback strength/weakness love/hate like/dislike agree/disagree
    mount/unmount install/uninstall subscribe/unsubscribe connect/disconnect login/logout public/private
    internal/external input/output source/target client/server parent/child male/female man/woman men/women boy/girl
    mother/father son/daughter brother/sister husband/wife uncle/aunt king/queen day/night morning/evening
    today/tomorrow today/yesterday tomorrow/yesterday past/future next/last next/previous win/lost won/lost
    summer/winter spring/autumn spring/fall north/south east/west northern/southern eastern/western upper/lower
    top/bottom front/back forward/backward horizontal/vertical row/column serial/parallel synchronous/asynchronous
    sync/async static/dynamic local/global local/remote online/offline manual/automatic optional/required
    mandatory/optional inclusive/exclusive include/exclude freeze/thaw heat/cool melt/freeze raise/lower expand/collapse
    grow/shrink create/delete create/destroy build/destroy save/spend earn/spend teach/learn employer/employee
    doctor/patient tenant/landlord buyer/seller lender/borrower majority/minority major/minor odd/even multiply/divide
    sum/difference union/intersection wet/dry full/empty strong/weak hard/soft hard/easy easy/difficult simple/complex
    cheap/expensive rich/poor light/dark light/heavy thick/thin wide/narrow deep/shallow loud/quiet black/white
    domestic/foreign import/sell enter/exit arrive/depart arrival/departure attack/defend victory/defeat success/failure
    succeed/fail pass/fail cause/effect question/answer problem/solution credit/debit asset/liability profit/loss
    revenue/cost income/expense bull/bear supply/demand deposit/withdraw vertical/lateral acid/base cation/anion"""
)

UNITS = _groups(
    """kilometre kilometer kilometers kilometres km kms
    metre meter meters metres
    centimetre centimeter centimeters centimetres cm
    millimetre millimeter millimeters millimetres mm
    mile miles mi
    yard yards yd
    foot feet ft
    inch inches
    kilogram kilograms kg kgs kilo kilos kilogramme
    gram grams gramme
    milligram milligrams mg
    microgram micrograms mcg
    ton tons tonne tonnes
    pound pounds lb lbs
    ounce ounces oz
    litre liter liters litres
    millilitre milliliter milliliters millilitres ml
    gallon gallons
    cup cups
    tablespoon tablespoons tbsp
    teaspoon teaspoons tsp
    celsius centigrade °c
    fahrenheit °f
    kelvin
    second seconds sec secs
    millisecond milliseconds ms
    microsecond microseconds us µs
    nanosecond nanoseconds ns
    minute minutes mins
    hour hours hr hrs
    byte bytes
    kilobyte kilobytes kb
    megabyte megabytes mb
    gigabyte gigabytes gb
    terabyte terabytes tb
    kib
    mib
    gib
    mph
    kmh km/h kph
    dollar dollars usd $ us$
    euro euros eur €
    sterling gbp £
    yen jpy ¥
    pence penny
    cent cents
    rupee rupees inr ₹
    percent % percentage
    degree degrees °
    watt watts kw
    volt volts
    joule joules
    calorie calories kcal
    hectare hectares
    acre acres"""
)

TIMES = _groups(
    """monday mondays mon
    tuesday tuesdays tue
    wednesday wednesdays wed
    thursday thursdays thu
    friday fridays fri
    saturday saturdays
    sunday sundays
    january jan
    february feb
    april apr
    june jun
    july jul
    august aug
    september sep sept
    october oct
    november nov
    december dec
    spring
    summer
    autumn
    winter
    today
    tonight
    tomorrow
    yesterday
    morning mornings
    afternoon afternoons
    evening evenings
    night nights
    noon midday
    midnight
    am a.m
    pm p.m
    day days
    week weeks
    month months
    quarter quarters
    year years
    decade decades
    century centuries
    daily
    weekly
    monthly
    yearly annual annually
    weekday weekdays
    weekend weekends
    bc bce
    ad ce
    now currently nowadays presently
    next upcoming
    last
    previous
    ago
    later
    earlier
    before
    after
    until till
    during
    since"""
)

SECOND_PERSON = frozenset("you your yours yourself".split())
FIRST_PERSON = frozenset("i me my mine myself we us our ours".split())
POSSESSIVES = {"my": 1, "mine": 1, "our": 1, "your": 2, "yours": 2, "his": 3, "her": 4, "hers": 4, "their": 5}
PAST = frozenset("was were did had didn't wasn't weren't hadn't".split())
FUTURE = frozenset("will shall won't gonna 'll".split())

# Foreign stop words, by language: two of one, and more than of English, tell what a text is written in.
LANGUAGES: Mapping[str, frozenset[str]] = {
    "en": frozenset("the is are what how do does of and to for with why when who can you".split()),
    "de": frozenset("der die das ist und ich wie was nicht ein eine mit für auf wer warum kann von den".split()),
    "fr": frozenset("le la les est et je comment que qui pas un une avec pour dans quelle quel des du".split()),
    "es": frozenset("el los las es y yo cómo qué quién no un una con para por cuál en del como".split()),
    "it": frozenset("il gli è e come che chi non un una con per di quale della sono perché".split()),
    "pt": frozenset("os as é e eu como que quem não um uma com para por qual em do da".split()),
    "nl": frozenset("de het is en ik hoe wat niet een met voor op wie waarom kan van".split()),
}

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen""".split()
    )
} | {word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
SUFFIXES = {"k": 1000}
ORDINALS = {
    word: value
    for value, word in enumerate(
        """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
        fifteenth sixteenth seventeenth eighteenth nineteenth twentieth""".split(),
        1,
    )
}
MULTIPLES = _groups(
    """twice double doubled
    thrice triple
    once
    single
    pair couple
    quadruple"""
)
ROMAN = {"ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9}
