"""Words that may stand for each other in a prompt: general vocabulary only, never names or kinds of things.

A group holds what means the same in any sentence a prompt is likely to be; words are compared by their stems.
"""

from __future__ import annotations

GROUPS = """
use uses used using utilize utilise utilization utilisation usage employ leverage
make create generate produce craft
build construct
get obtain retrieve fetch acquire gain
show display
delete remove erase eliminate
fix repair mend
solve resolve
buy purchase
help assist aid
start begin commence
end finish conclude
large big huge
small little tiny
fast quick quickly rapid rapidly swift speedy
faster quicker
easy simple straightforward easily simply
hard difficult
important crucial significant vital essential
need require necessitate
allow enable permit let
give provide supply offer furnish
contain include comprise encompass incorporate
change modify alter
update refresh
convert transform turn
combine merge
choose select pick
find locate
look appear seem
try attempt
keep retain preserve
store save
clarify elucidate outline
suggest recommend propose
write compose draft
list enumerate
error bug mistake fault
picture image photo photograph
movie film
sea ocean
author writer
automobile car
illness disease sickness
kid child
job occupation profession
colour color
favourite favorite
centre center
tyre tire
fridge refrigerator
phone telephone
tv television
ad advertisement advert
bike bicycle
plane airplane aeroplane
math mathematics maths
info information detail data datum
doc documentation document
repo repository
app application
config configuration
param parameter
arg argument
func function
dir directory folder
env environment
db database
js javascript
ts typescript
py python
postgres postgresql
k8s kubernetes
golang go
mac macos
wifi wi-fi
email e-mail
ww2 wwii
usa america
uk britain
method approach technique
guide tutorial
goal aim objective
benefit advantage upside
beneficial advantageous helpful useful
drawback disadvantage downside
symptom sign
reason cause
result outcome
effect impact
part component portion
kind type sort
feature characteristic attribute property
number amount quantity
group collection
answer reply respond response
question query
meaning mean significance
difference differ distinction distinguish
compare comparison
summary summarize summarise
similar alike
main primary principal chief
whole entire
correct right accurate
proper suitable appropriate
different distinct
variety range
separate individual
specific particular certain
special unique
common frequent
well-known famous renowned
smart intelligent clever
happy glad joyful
sad unhappy
angry mad
scared afraid
tired exhausted
rich wealthy
healthy wholesome
cheap inexpensive affordable
expensive costly
price cost
salary wage
money cash
firm company corporation business
employee worker
boss supervisor
customer client
meeting gathering
purpose intention
idea concept notion
speech talk
trip journey
holiday vacation
house home
apartment flat
shop store
lawyer attorney
teacher instructor
student pupil
speak talk
start-up startup
instruction direction guideline
adhere follow
perform execute carry conduct run
do accomplish achieve
happen occur transpire
understand comprehend grasp
learn discover
check verify
ensure guarantee
think believe
want wish desire
like enjoy
improve enhance
decrease reduce lower
increase raise
speed accelerate
avoid prevent
handle manage deal
specify indicate designate state stipulate
determine ascertain
return yield
load import
access reach
share distribute
call invoke
apply implement
depend rely
belong pertain
consist comprise
refer denote
represent signify
identify recognize recognise
analyze analyse examine
organize organise arrange structure
divide split partition
connect link
join unite
available accessible
possible feasible
default standard
equivalent equal
numerous many
various diverse
additional extra
subsequent following next
initial first
final last
current present
modern contemporary
old aged
new novel
total overall
exist be
consider regard view
think ponder
work function operate
used-to accustomed
substitute replacement alternative
instead alternatively
place location
set establish
mandatory required compulsory obligatory
optional voluntary
pull extract
unpack decompress unzip
iterate loop cycle
test exam
cure remedy
drink beverage
meal dish
cook prepare
street road
forest woods
stone rock
present gift
baby infant
doctor physician
grammar grammatical
height tall
age old
numeric numerical
text textual
tap click
name title
evaluate assess appraise
compute calculate
computation calculation
shuffle randomize
random randomly
add insert
limitation restriction
push upload
issue problem
serve act
switch toggle
pass supply
base foundation
associate relate correspond
ability capability capacity
hold contain
collaborate cooperate
completely fully entirely totally
previously formerly
automatically
usually
afterwards afterward
deprecated discontinued
segment chunk
travel traverse
investigate explore
decide resolve
advice guidance counsel
option choice
compatible
procedure process
tool instrument
"""

# Dropped: they only link, or frame what is asked for.
LIGHT = """
way thing order possible able explain describe define step either thus however additionally furthermore moreover
etc e.g i.e afterwards therefore along together whether namely up out let currently
"""

# In a statement, which asks for nothing, these may be put for one another: the rest of it says what it is about. In a
# question or a command they are often the very thing asked for, and must agree.
GENERAL = """
use give specify contain make allow get info set available access load need take exist find work return method
convert subsequent different exampl pass determine func facilitat divide refer process serve instruction advice
organize support kind build group store perform help learn design choose call base keep feature handle part
iterate place instanc do know adjust look ability output adhere apply consider see form intend specific read
switch associate represent option one hold certain want share like goal purpose meaning variety various sure ensure
come move start join combine check manage implement depend belong consist identify connect case point task
particular proper correct important useful necessari easy subsequent additional mention act change new provid
accept remain become go put mak offer describ explain
"""
