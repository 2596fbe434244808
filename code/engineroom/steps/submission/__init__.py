"""From finished runs to a tree that can be submitted, and from published trees to figures that can be compared.

layout     where each file lies, up to v5.1 and from v6.0 on
choose     which runs belong together, and which of them are the best
inference  results of one scenario that follow from another's
documents  what is written and not measured: README, measurements, calibration, sources
stage      the tree, built beside the former one and put in its place in whole
truncate   accuracy logs cut short, with the hash of the whole one; and back
privacy    what in a text must not be published
scrub      looks through a tree for that, and replaces it where that is allowed
rehearsal  by what a rehearsal is known, and which rules it may break
pack       the archive; the copy to where it is submitted from
published  results of anybody, from trees and from MLCommons' summaries
official   MLCommons' own checker
validate   anybody's tree, judged as a stranger would
"""
