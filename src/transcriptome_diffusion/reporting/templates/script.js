const draw=e=>{if(e.dataset.drawn)return;e.dataset.drawn=1;
const f=JSON.parse(e.nextElementSibling.textContent);
Plotly.newPlot(e,f.data,f.layout,{responsive:true,displaylogo:false})};
const figures=[...document.querySelectorAll('.figure')];
const seen=new IntersectionObserver(a=>a.forEach(i=>{if(i.isIntersecting){draw(i.target);seen.unobserve(i.target)}}),
{rootMargin:'900px'});
figures.forEach(e=>seen.observe(e));
addEventListener('beforeprint',()=>figures.forEach(draw));
