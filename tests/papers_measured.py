"""What was measured here of each paper: the last table of docs/papers.md.

Points are of held-out accuracy over the same student on labels alone, with a 95 %
interval, three seeds (docs/results.md, "Under each loss"); no weight was tuned.
"""

MEASURED = {
    "2411.08937": "digits, its weights 1 and 1: one head +2.9 (0.8 to 4.7) points, "
    "two +7.6 (5.6 to 10.9), aligned +7.8 (6.7 to 9.8); its KL at 1/2 and unscaled "
    "has +8.3 (7.2 to 9.7) on one head: the second shows where the weight is large, "
    "the alignment does not (`configs/papers.py --sweep=heads`)",
    "2604.00626": "digits, points: ToDi +3.8 (2.2 to 5.3), reverse KL +3.7 (2.2 to "
    "4.5), adaptive KL +3.2 (0.3 to 5.8), forward KL at temperature 4 +2.6 (0.6 to "
    "5.0), total variation +0.9 (-0.3 to 1.7), Jensen-Shannon +0.2 (-1.1 to 1.1), "
    "order 1/2 -0.1 (-0.8 to 1.1), forward KL where the teacher is unsure +0.8 (0.0 "
    "to 1.9); [student rows](results.md#on-the-students-own-words)",
    "1604.08859": "digits: +1.3 (0.0 to 1.9) points in place of the cross-entropy",
    "2412.08424": "the published counts of steps, exactly",
    "2403.01427": "digits: +7.5 (6.1 to 8.9) points; forward KL without it +2.6 (0.6 "
    "to 5.0)",
    "2401.11081": "digits in bags of five: shares alone 60.5 ± 3.0 %, with a tenth "
    "of the instance term 38.9 ± 6.1, that term alone 30.2 ± 1.3; labels 76.7 ± 1.6: "
    "here the term only costs (`configs/papers.py --sweep=bags`)",
    "2511.08322": "digits: a bias of 0.5 from class 5 on +0.4 (-4.5 to 3.1) points; "
    "distillation that trusts a correct teacher +4.5 (2.8 to 6.1), where plain has "
    "+2.6, and 18.1 % of the teacher's answers lost for 20.1",
    "2404.08958": "digits: with a frozen prior of 44.8 ± 4.0 % errors ahead at 10 "
    "images alone (42.6 %, head alone 54.9); the kurtosis shows nothing "
    "(`configs/vision_digits.py`)",
    "2302.02334": "digits: naive Bayes ahead of logistic regression in each seed up "
    "to 50 images, behind in each at 400 (`configs/vision_digits.py`)",
    "2301.12942": "it trains with no loss",
    "2501.13341": "not tried: aspects made of the labels are known not to show",
    "2507.02559": "text, 200 steps of a fresh model, layer norms fading from step 80 "
    "on, one every 10 steps: +0.09 (0.06 to 0.11) nats/token over 5.25 of a student "
    "with RMS norms, so the kind of norm counts too",
    "2402.06827": "digits under two attacks: 72.9 ± 6.0 % errors under the worse, "
    "74.2 ± 5.6 without the pairing, ahead in each seed "
    "(`configs/vision_digits.py`); the merge, in as many steps from scratch, 85.6 ± "
    "0.6: it only costs there",
    "2304.07288": "digits: τ = 1.7 +0.6 (-3.6 to 3.1) points; smooth adversarial "
    "57.4 ± 6.8 % errors under attack, labels alone 95.4 ± 2.4 "
    "(`configs/vision_digits.py`)",
    "2506.12542": "digits: +6.2 (3.9 to 8.6) points at temperature 4",
    "2503.06991": "not tried: it needs many classes, to forget some",
    "2507.06187": "not tried: it needs a trained model and a weaker one",
    "2406.08607": "not tried: it needs a trained model and what it must forget",
    "2406.15480": "not tried: it needs three language models",
    "2309.14322": "sensitivity to the learning rate: [a sweep](results.md#a-sweep); "
    "the instabilities show at scale",
    "2306.12442": "digits: graphs of sampled patches +4.9 (3.1 to 7.0) points, "
    "patches of an image +3.8 (3.1 to 4.7)",
    "2310.08069": "not tried: it needs pairs of queries and codes",
    "2510.04910": "oscillations with half of their numbers missing, three seeds: mean "
    "absolute error 0.399 for values alone, +0.0000 (-0.0001 to 0.0002) with the "
    "prior, +0.0016 (-0.0036 to 0.0087) aligned, +0.0018 (-0.0039 to 0.0084) with "
    "both: neither shows there; a line between two numbers has 0.642 "
    "(`configs/series/imputation.py --sweep=parts`)",
    "2406.15941": "not tried: it needs many models drawn alike",
    "2411.09009": "memory and time: [the head](speed.md#the-head)",
    "2405.14745": "digits, F1 of the eights beside labels: -0.2 (-4.7 to 5.0) points "
    "of all classes at A = q, +2.2 (1.1 to 3.9) at L = 5",
    "2509.25795": "not tried: it needs groups that differ",
    "2505.10202": "text, 200 steps, 1,024 codes for 4,096 tokens modulo: +0.82 (0.81 "
    "to 0.85) nats/token of 5.25, accuracy 15.5 % for 16.1",
    "2601.04992": "digits: +2.0 (1.7 to 2.2) points",
    "2505.13893": "digits: at a weight of 1/2 its graph drowns the labels, 9.2 ± 1.6 "
    "%; sorted logits of an image -7.7 (-10.0 to -5.9) points",
    "2504.20571": "digits: a penalty on confidence +5.9 (4.5 to 7.2) points; the "
    "gradient of rewards was not tried",
    "2203.05482": "not tried: it needs runs from one trained start",
    "2603.13552": "digits after one step of a thousand times the rate: 93.3 ± 1.0 %, "
    "gradients clipped 14.4 ± 5.6 (`configs/vision_digits.py`)",
    "1911.02855": "digits: -5.3 (-7.8 to -2.8) points in place of the cross-entropy",
    "2502.06733": "digits: easy rows less +2.4 (-0.3 to 7.2) points, both ends more "
    "+0.5 (-2.2 to 2.2)",
    "2508.02668": "text, 120 steps, rank 26, three seeds: +0.05 (0.04 to 0.07) "
    "nats/token of 5.66",
    "2506.21551": "not tried: it needs a model that groks",
    "2303.13005": "digits: NKD +7.9 (4.5 to 10.3) points, USKD +1.1 (-0.6 to 2.5)",
    "1705.08741": "digits: 13 steps of 512 rows 17.3 ± 5.7 %, at a rate by the root "
    "of the batch 34.5 ± 10.1, with as many steps as small batches 98.1 ± 1.1 "
    "(`configs/vision_digits.py`)",
    "2410.13828": "not tried: it needs a trained model",
    "2512.22170": "not tried: it needs judged pairs",
    "2503.02832": "not tried: it needs a trained model and preferences",
    "2308.09878": "not tried: it needs clusters of unequal size",
    "2604.11576": "digits with captions that hold their names: under attack 60.1 ± 5.6 "
    "% errors before, 28.3 ± 3.1 after by its loss alone, 34.2 ± 1.4 with all its "
    "regularizers, which cost in each seed and show nothing on clean images, 3.8 ± 0.4 "
    "and 4.5 ± 1.6 % (`configs/vision_digits.py`)",
    "2502.00348": "made-up interactions, clean ones held out, Recall@20: with four "
    "false positives beside ten true ones 55.7 ± 0.9 %, 52.4 ± 1.2 without the "
    "resampling in 2000 steps, ahead in each seed; behind in 1200, 47.8 ± 0.2 and "
    "51.3 ± 0.6, and where none is false, 58.2 ± 1.0 and 68.7 ± 0.5 "
    "(`configs/papers.py`)",
}
