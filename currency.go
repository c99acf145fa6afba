package livestream

import "strings"

// currencies are those of ISO 4217 that are in use, with neither metals nor units of
// account. Amounts are in the currency's own minor unit, of which some have none, so
// that nothing here depends on how many there are to a major one.
var currencies = func() map[string]bool {
	known := map[string]bool{}
	for _, code := range strings.Fields(`
		aed afn all amd aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd btn bwp byn bzd cad cdf chf clp cny cop crc cup
		cve czk djf dkk dop dzd egp ern etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr iqd irr isk jmd jod
		jpy kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd lsl lyd mad mdl mga mkd mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn
		nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sdg sek sgd shp sle sos srd ssp stn svc syp szl
		thb tjs tmt tnd top try ttd twd tzs uah ugx usd uyu uzs ved ves vnd vuv wst xaf xcd xcg xof xpf yer zar zmw zwg`) {
		known[code] = true
	}
	return known
}()

// KnownCurrency says whether there is a currency of that code, in lower case. Which
// of them can be paid with is for the payment provider to say.
func KnownCurrency(code string) bool { return currencies[code] }
